"""Every metric that the shared parts keep, by name; labels are bounded (topic, code), never a tenant or an event."""

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "BATCH_DURATION_SECONDS",
    "BATCH_RECORDS",
    "CLOCK_OFFSET_SECONDS",
    "CONSUMER_LAG_RECORDS",
    "CONSUMER_STOPPED",
    "EVENTS_CONSUMED",
    "EVENT_AGE_SECONDS",
    "JOB_CLOCK_OFFSET_SECONDS",
    "JOB_FAILURES",
    "OUTBOX_OLDEST_SECONDS",
    "OUTBOX_PUBLISHED",
    "OUTBOX_ROWS",
    "PARTITION_HELD_SECONDS",
    "QUARANTINED",
    "SET_ASIDE",
    "TRANSIENT_RETRIES",
]

# Records by what became of them: charged, repeated, free, parked, applied ... and refused.
EVENTS_CONSUMED = Counter("rappen_events_consumed_total", "Records by outcome.", ["topic", "outcome"])
BATCH_RECORDS = Histogram(
    "rappen_batch_records", "Records in a batch.", ["topic"], buckets=(1, 10, 50, 100, 250, 500, 1000, 2000, 5000)
)
BATCH_DURATION_SECONDS = Histogram(
    "rappen_batch_duration_seconds",
    "Decode to commit of a batch.",
    ["topic"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)
EVENT_AGE_SECONDS = Gauge("rappen_event_age_seconds", "Age of the newest processed record.", ["topic"])
CONSUMER_LAG_RECORDS = Gauge(
    "rappen_consumer_lag_records", "End of the log less position, own partitions; open transactions count.", ["topic"]
)
CONSUMER_STOPPED = Gauge(
    "rappen_consumer_stopped", "1 while nothing of a topic is read because almost all of it was refused.", ["topic"]
)
PARTITION_HELD_SECONDS = Gauge(
    "rappen_partition_held_seconds",
    "How long an open transaction of some producer has kept records of a partition from being read.",
    ["topic", "partition"],
)
QUARANTINED = Counter("rappen_dead_letters_total", "Records put into quarantine.", ["topic", "code"])
SET_ASIDE = Counter(
    "rappen_stored_set_aside_total", "Stored rows that could not be worked off and wait for an operator.", ["kind"]
)
CLOCK_OFFSET_SECONDS = Gauge(
    "rappen_clock_offset_seconds", "By how much the platform's time is ahead of the machine's; 0 in production."
)
JOB_CLOCK_OFFSET_SECONDS = Gauge(
    "rappen_job_clock_offset_seconds",
    "By how much the platform's time was ahead when the job last found nothing left to do.",
    ["job"],
)
JOB_FAILURES = Counter("rappen_job_failures_total", "Runs of a job that failed.", ["job", "error"])
TRANSIENT_RETRIES = Counter("rappen_transient_retries_total", "Batches tried again.", ["topic", "error"])
OUTBOX_ROWS = Gauge("rappen_outbox_rows", "Rows waiting for the relay at its last look.")
OUTBOX_OLDEST_SECONDS = Gauge("rappen_outbox_oldest_seconds", "Age of the oldest waiting row.")
OUTBOX_PUBLISHED = Counter("rappen_outbox_published_total", "Records the relay got acknowledged.", ["topic"])
