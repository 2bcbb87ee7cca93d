"""The only file that knows FastStream's broker and aiokafka's producer; every setting that matters is explicit.

FastStream's defaults commit before the work is done, start at the newest record and decode headers so that one
undecodable byte loses a batch. Each default that could lose, hold up or flood something is set here, with the reason
beside it; the consumer runner relies on it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from aiokafka import AIOKafkaProducer, ConsumerRebalanceListener, ConsumerRecord
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaMessage

from services.chassis.logging import get_logger
from services.chassis.partition_records import KafkaRecord
from services.chassis.records import RecordReader
from services.chassis.settings import KafkaSettings

__all__ = ["BatchSubscription", "KafkaRecord", "RebalanceListener", "close_producer", "gathering_time", "make_producer"]

RebalanceListener: TypeAlias = ConsumerRebalanceListener

HEARTBEAT_INTERVAL_MS = 2_000
# Longer than the longest batch, so that a batch in flight is finished and committed before partitions move.
REBALANCE_TIMEOUT_MS = 60_000
MAX_POLL_INTERVAL_MS = 180_000
# FastStream sleeps this long after an empty poll, during which a first record waits; the poll itself waits in the
# reader, without such a delay.
EMPTY_POLL_MS = 1
# The broker answers as soon as there is a record, so that a long wait only spares idle requests.
FETCH_WAIT_MS_MAX = 1_000
# A group that lingers lets the broker gather this much first, for as long as it lingers: a batch costs a transaction
# and a commit whatever its size, so many small ones cost more than they are worth.
FETCH_BYTES_MIN = 512 * 1024
# It lingers for as many times as long as its last batch took to settle, within its own limit and this one: so it is
# busy for half of its time at most while it keeps up, with the smallest batches for which that holds.
LINGER_BY_SETTLING = 2.0
LINGER_S_MIN = 0.02
# Bounds what one consumer holds decompressed, whatever the backlog.
FETCH_BYTES_MAX = 4 * 1024 * 1024
PARTITION_FETCH_BYTES_MAX = 512 * 1024
STOP_GRACE_S = 30.0
REQUEST_TIMEOUT_MS = 15_000
RETRY_BACKOFF_MS = 100
METADATA_AGE_MS_MAX = 60_000
# Larger than the largest dead letter with its headers.
PRODUCE_BYTES_MAX = 1024 * 1024
CLOSE_TIMEOUT_S = 2.0

_log = get_logger(__name__)


async def _tolerant_parser(
    records: tuple[KafkaRecord, ...], original: Callable[[tuple[ConsumerRecord, ...]], Awaitable[KafkaMessage]]
) -> KafkaMessage:
    """Leaves headers undecoded for our own codec: in FastStream a null or non-UTF-8 one would lose the whole batch."""
    first = records[0]
    empty = ConsumerRecord(
        first.topic, first.partition, first.offset, first.timestamp, 0, first.key, b"", None, 0, 0, ()
    )
    message = await original((empty,))
    message.raw_message = records
    return message


async def _raw_records(message: KafkaMessage) -> Sequence[KafkaRecord]:
    records: Sequence[KafkaRecord] = message.raw_message
    return records


class BatchSubscription:
    """Batches of raw records of one group, acknowledged only after the handler has returned.

    A handler that raises gets the same records again; it has to wait before it raises, because the client does not.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        client_id: str,
        group: str,
        topics: Sequence[str],
        handler: Callable[[Sequence[KafkaRecord]], Awaitable[None]],
        reading: asyncio.Event,
        listener: RebalanceListener,
        linger_s: float,
    ) -> None:
        self._reading = reading
        self._linger_s = linger_s
        self._broker = KafkaBroker(
            settings.bootstrap_servers,
            # By default the name of the library and its version: nobody could tell whose connection it is.
            client_id=client_id,
            # By default a broker has a producer, without acknowledgement by all replicas, and an admin client too. What
            # is published leaves through the outbox.
            consumer_only=True,
            # By default a topic that is missing is made, with one partition and one replica.
            allow_auto_create_topics=False,
            # By default 40 s and five minutes: a broker that is gone, or a new partition, would go unnoticed for that
            # long.
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=RETRY_BACKOFF_MS,
            metadata_max_age_ms=METADATA_AGE_MS_MAX,
            # By default a batch in flight is cancelled after 15 s, and comes again.
            graceful_timeout=STOP_GRACE_S,
            logger=None,
            # The handler takes what the decoder gives; casting it would copy each batch.
            apply_types=False,
        )
        self._subscriber = self._broker.subscriber(
            *topics,
            group_id=group,
            batch=True,
            # By default a batch is all that the client holds, and so is the transaction that settles it.
            max_records=settings.batch_records_max,
            batch_timeout_ms=EMPTY_POLL_MS,
            # By default offsets are committed in the background before the work is done: a crash loses records.
            ack_policy=AckPolicy.NACK_ON_ERROR,
            # By default "latest": what was published before the group's first commit would never be read.
            auto_offset_reset="earliest",
            # By default records of aborted transactions are read, and they must not be charged.
            isolation_level="read_committed",
            # By default a rebalance waits no longer than a session, and a batch in flight would be settled twice.
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            fetch_min_bytes=FETCH_BYTES_MIN if linger_s else 1,
            fetch_max_wait_ms=int(linger_s * 1000) if linger_s else FETCH_WAIT_MS_MAX,
            # By default 50 MiB, and 1 MiB of each partition.
            fetch_max_bytes=FETCH_BYTES_MAX,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES_MAX,
            listener=listener,
            # By default headers are decoded as UTF-8 and bodies as JSON; one that is neither loses its whole batch.
            parser=_tolerant_parser,
            decoder=_raw_records,
        )

        @self._subscriber
        async def consume(records: Any) -> None:
            await handler(records)

    async def start(self) -> None:
        """Joins the group; raises when the broker cannot be reached."""
        await self._broker.connect()
        _read_by(self._broker, partial(RecordReader, reading=self._reading))
        await self._broker.start()

    async def stop(self) -> None:
        """Stops fetching, lets the batch in flight finish and be committed, leaves the group."""
        await self._broker.stop()

    def settled_in(self, seconds: float) -> None:
        """Says how long the newest batch took, by which a group that lingers lets the next ones gather."""
        if self._linger_s and self.reader is not None:
            self.reader.gather(gathering_time(self._linger_s, seconds))

    @property
    def reader(self) -> RecordReader | None:
        """The client below, for positions, end offsets and topics."""
        return self._subscriber.consumer


def gathering_time(linger_s: float, settled_s: float) -> float:
    """For how long, in seconds, a group that lingers for `linger_s` at most gathers after a batch that took
    `settled_s`."""
    return min(linger_s, max(LINGER_S_MIN, LINGER_BY_SETTLING * settled_s))


def _read_by(broker: KafkaBroker, reader: Callable[..., RecordReader]) -> None:
    """Has the subscribers of a connected broker read by a consumer of ours.

    FastStream 0.7 documents no way to choose the class of its consumers. It creates them with `builder`, which
    connecting sets and which its own test broker replaces in the same way; tests/unit/chassis/test_client_inside.py
    pins that.
    """
    config = broker.config.broker_config
    made: Any = config.builder
    config.builder = partial(reader, **made.keywords)


def make_producer(settings: KafkaSettings, *, client_id: str) -> AIOKafkaProducer:
    """An idempotent producer that acknowledges only what every replica has."""
    return AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        compression_type="lz4",
        linger_ms=5,
        max_batch_size=256 * 1024,
        max_request_size=PRODUCE_BYTES_MAX,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        retry_backoff_ms=RETRY_BACKOFF_MS,
        metadata_max_age_ms=METADATA_AGE_MS_MAX,
    )


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Closes a producer in bounded time: what is unsent by then was promised to nobody, or is still a row."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await producer.stop()
    except (TimeoutError, KafkaError) as error:
        _log.warning("producer closed hard", error=type(error).__name__)
