"""What the payments service counts; labels are bounded words, never a tenant or an event."""

from prometheus_client import Counter, Gauge

__all__ = [
    "AMOUNT_MISMATCHES",
    "EVENTS_FAILED",
    "EVENTS_PROCESSED",
    "EVENTS_RECEIVED",
    "EVENTS_WAITING",
    "PAYMENTS_CREDITED",
    "WEBHOOKS_REFUSED",
]

WEBHOOKS_REFUSED = Counter("rappen_payments_webhooks_refused_total", "Deliveries answered 400.", ["reason"])
EVENTS_RECEIVED = Counter("rappen_payments_events_received_total", "Deliveries stored or recognised.", ["outcome"])
EVENTS_PROCESSED = Counter("rappen_payments_events_processed_total", "Stored events by outcome.", ["outcome"])
EVENTS_FAILED = Counter("rappen_payments_events_failed_total", "Tries that failed and come again.", ["error"])
EVENTS_WAITING = Gauge("rappen_payments_events_waiting", "Stored events that are not processed yet.")
PAYMENTS_CREDITED = Counter("rappen_payments_credited_total", "Payments published.", ["reason"])
AMOUNT_MISMATCHES = Counter("rappen_payments_amount_mismatches_total", "Payments of another amount than asked for.")
