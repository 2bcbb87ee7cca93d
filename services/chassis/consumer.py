"""The consumer runner: raw batches in, one settled batch out, nothing lost whatever is in a record.

A batch is decoded record by record; what cannot be read is refused with its own code. The service's handler settles
the good events and the refused records in one transaction. Transient errors are tried again with the same batch.
A handler that knows which events are at fault names them all, and they are refused together; that costs one pass more,
however many they are. Anything else is isolated by halving until one event stands alone; that one is refused, its
neighbours are settled.
Offsets are committed only after the handler has returned, so every crash ends in a redelivery, which the identity of
each event makes harmless.
Where almost everything is refused, the consumer stops instead (services/chassis/dead_letter_limit.py).
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from rappen_contracts import ContractError, Event, decode
from services.chassis.clock import Clock
from services.chassis.database import Database, is_transient
from services.chassis.dead_letter_limit import DeadLetterLimit
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.kafka import BatchSubscription, KafkaRecord, RebalanceListener
from services.chassis.logging import get_logger
from services.chassis.metrics import (
    BATCH_DURATION_SECONDS,
    BATCH_RECORDS,
    EVENT_AGE_SECONDS,
    TRANSIENT_RETRIES,
)
from services.chassis.partition_records import CutValue
from services.chassis.process import unless_stopped
from services.chassis.quarantine import Refused
from services.chassis.settings import KafkaSettings, ServiceSettings
from services.chassis.watchdog import Watchdog

__all__ = ["Consumer", "Handler", "Reader", "Received", "Subscribers", "UnprocessableEvents", "data_of", "received"]

# Well under the poll interval after which the group would expel us; then the records are given back and come again.
RETRY_BUDGET_S = 60.0
RETRY_DELAY_S_MAX = 5.0
ISOLATED_TRIES = 2
# How many times a handler may name events at fault before the batch is halved anyway.
NAMED_PASSES_MAX = 5
# Tries to learn where an assigned partition begins, if what fails is not the broker, and the time between tries.
BEGIN_TRIES = 10
BEGIN_RETRY_S = 0.5
# How long a try takes at most: the client would ask a broker that is away for ever, also while the process stops.
BEGIN_TRY_S = 10.0
# Decoding yields to heartbeats and health this often.
DECODE_SLICE = 250
# SQLSTATE classes: invalid authorization, invalid catalog or schema name, syntax error or access rule violation.
_SCHEMA_CLASSES = ("28", "3D", "3F", "42")

_log = get_logger(__name__)

D = TypeVar("D")


@dataclass(slots=True)
class Received:
    """A decoded event and the record it came in, which a later refusal still needs."""

    event: Event
    record: KafkaRecord

    @property
    def id(self) -> UUID:
        return self.event.id


def received(now: datetime) -> Callable[[KafkaRecord], Received]:
    """Decodes the records of a batch; `now` bounds how far ahead an event's time may be."""
    return lambda record: Received(decode(record.headers, record.value, now=now), record)


def data_of(event: Event, kind: type[D]) -> D:
    """The data of an event; TypeError for an event of another kind, which does not belong on the topic."""
    if not isinstance(event.data, kind):
        raise TypeError(f"{type(event.data).__name__} is no {kind.__name__}")
    return event.data


class UnprocessableEvents(Exception):  # noqa: N818 - named for the events that it lists.
    """Events that can never be settled, each with the reason; nothing was committed, and the others may be fine."""

    def __init__(self, faults: Sequence[tuple[Any, str]]) -> None:
        super().__init__(f"{len(faults)} events, the first for {faults[0][1]}")
        self.faults = faults


# Made for each batch: gives the event of a record with what the handler needs of it, an `id` and the `record` in any
# case, as `Received` has them; raises `ContractError` for a record that is refused. A record at which it raises
# anything else is refused too.
Reader = Callable[[datetime], Callable[[KafkaRecord], Any]]
# Settles events and refused records in one transaction of its own; raises only when nothing was committed. Returns all
# that it has refused: the records it was given as refused, and those of its events.
Handler = Callable[[Sequence[Any], Sequence[Refused]], Awaitable[Sequence[Refused]]]


class Consumer:
    """One consumer group of a service on a topic, as a component of its worker process."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        client_id: str,
        group: str,
        topic: str,
        handler: Handler,
        database: Database,
        clock: Clock,
        faults: FaultPoints,
        health: Health,
        linger_s: float = 0.0,
        reader: Reader = received,
    ) -> None:
        self.name = f"consumer {topic}"
        self._handler = handler
        self._reader = reader
        self._clock = clock
        self._faults = faults
        self._topic = topic
        self._limit = DeadLetterLimit(settings, database, group=group, topic=topic, clock=clock)
        self._busy = asyncio.Lock()
        self._joined = False
        self._stopping = False
        # Whether the traceback of the present batch's failure was logged.
        self._traceback_logged = False
        # What the handler has refused of the present batch.
        self._refused: list[Refused] = []
        self._subscription = BatchSubscription(
            settings,
            client_id=client_id,
            group=group,
            topics=[topic],
            handler=self._consume,
            reading=self._limit.reading,
            listener=_Drain(self._busy, faults, self._revoke, self._begin),
            linger_s=linger_s,
        )
        self._watchdog = Watchdog(self.name, [topic], self._subscription, self._busy, self._limit)
        health.register(self.name, self._ready)

    async def run(self, stop: asyncio.Event) -> None:
        """Consumes until told to stop; raises when the client is alive but stuck."""
        try:
            # The client waits for its first assignment, and for the topic.
            self._joined = await unless_stopped(stop, self._subscription.start())
            if self._joined:
                await self._watchdog.run(stop)
        finally:
            self._joined = False
            self._stopping = True
            await self._subscription.stop()

    async def _ready(self) -> bool | str:
        if not self._limit.reading.is_set():
            return self._limit.stopped or False
        return self._joined and self._watchdog.ready()

    def _revoke(self) -> None:
        if self._subscription.reader is not None:
            self._subscription.reader.revoke()

    async def _begin(self, partitions: Sequence[TopicPartition]) -> None:
        """Sets the offset at which each partition is read on. The client only logs what is raised here, so every error
        is tried again: one of the broker until it is back or the watchdog ends the process, an unexpected one some
        times, after which the process is stopped. Nothing is read from an offset that may be wrong."""
        reader, unexpected = self._subscription.reader, 0
        while reader is not None and not self._stopping:
            try:
                async with asyncio.timeout(BEGIN_TRY_S):
                    await reader.begin(partitions)
            except (KafkaError, OSError) as error:
                _log.warning("begin tried again", error=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - see above.
                unexpected += 1
                _log.warning("begin tried again", attempt=unexpected, error=type(error).__name__, exc_info=error)
                if unexpected == BEGIN_TRIES:
                    self._watchdog.fail(f"{self.name} does not learn where to begin")
                    return
            else:
                return
            await asyncio.sleep(BEGIN_RETRY_S)

    async def _consume(self, records: Sequence[KafkaRecord]) -> None:
        async with self._busy:
            started = time.perf_counter()
            events, refused = await self._decode(records)
            self._faults.reach("before_transaction")
            self._traceback_logged = False
            self._refused = []
            try:
                await self._settle(events, refused)
            except asyncio.CancelledError:
                _log.warning("work given up", records=len(records), topic=self._topic)
                raise
            except Exception as error:
                reader = self._subscription.reader
                if reader is None or not reader.newest_batch_is_outdated:
                    raise
                # Given back to the client, these offsets would be sought in the new topic of the same name.
                _log.error("records of a topic that is no more lost", records=len(records), error=type(error).__name__)
            else:
                await self._limit.add(len(records), self._refused)
            BATCH_RECORDS.labels(self._topic).observe(len(records))
            took_s = time.perf_counter() - started
            BATCH_DURATION_SECONDS.labels(self._topic).observe(took_s)
            self._subscription.settled_in(took_s)
            EVENT_AGE_SECONDS.labels(self._topic).set(max(0.0, time.time() - records[-1].timestamp / 1000))
            self._faults.reach("after_commit")

    async def _decode(self, records: Sequence[KafkaRecord]) -> tuple[list[Any], list[Refused]]:
        events: list[Any] = []
        refused: list[Refused] = []
        read = self._reader(self._clock())
        for number, record in enumerate(records):
            if isinstance(record.value, CutValue):
                refused.append(Refused(record, record.value.code, record.value.why))
                continue
            try:
                events.append(read(record))
            except ContractError as error:
                refused.append(Refused(record, error.code, error.detail))
            except Exception as error:  # noqa: BLE001 - whatever it is, it would hold up the partition for ever.
                _log.error("event refused", code="UNPROCESSABLE", error=type(error).__name__, offset=record.offset)
                refused.append(Refused(record, "UNPROCESSABLE", type(error).__name__))
            if number % DECODE_SLICE == DECODE_SLICE - 1:
                await asyncio.sleep(0)
        return events, refused

    async def _settle(self, events: Sequence[Any], refused: Sequence[Refused]) -> None:
        """Settles a batch; a fault of the data is narrowed down to the events that cause it."""
        error = await self._try(events, refused)
        for _ in range(NAMED_PASSES_MAX):
            if not isinstance(error, UnprocessableEvents):
                break
            events, refused = self._without(error, events, refused)
            error = await self._try(events, refused)
        if error is None:
            return
        if not events:
            raise error
        if len(events) == 1:
            await self._settle_single(events[0], refused, error)
            return
        middle = len(events) // 2
        await self._settle(events[:middle], refused)
        await self._settle(events[middle:], ())

    def _without(
        self, error: UnprocessableEvents, events: Sequence[Any], refused: Sequence[Refused]
    ) -> tuple[list[Any], list[Refused]]:
        """The batch with the named events among the refused."""
        reasons = {id(received): why for received, why in error.faults}
        named = [received for received in events if id(received) in reasons]
        _log.error("events refused", code="UNPROCESSABLE", count=len(named), error=error.faults[0][1])
        entries = [Refused(received.record, "UNPROCESSABLE", reasons[id(received)]) for received in named]
        return [received for received in events if id(received) not in reasons], [*refused, *entries]

    async def _settle_single(self, received: Any, refused: Sequence[Refused], error: Exception) -> None:
        """Tries again without a pause: an error that is not transient does not pass, and the pauses of many events add
        up."""
        for _ in range(1, ISOLATED_TRIES):
            again = await self._try([received], ())
            if again is None:
                await self._settle((), refused)
                return
            error = again
        why = error.faults[0][1] if isinstance(error, UnprocessableEvents) else type(error).__name__
        _log.error("event refused", code="UNPROCESSABLE", error=why, event_id=str(received.id))
        await self._settle((), [*refused, Refused(received.record, "UNPROCESSABLE", why, ISOLATED_TRIES)])

    async def _try(self, events: Sequence[Any], refused: Sequence[Refused]) -> Exception | None:
        """Runs the handler; transient errors are tried again here, what remains is returned as the data's fault.

        When the process stops or the time is up, the error is raised: nothing was committed, the batch comes again.
        """
        deadline = time.monotonic() + RETRY_BUDGET_S
        delay_s = 0.05
        while True:
            try:
                self._refused += await self._handler(events, refused)
            except Exception as error:
                if not is_transient(error) and not _is_of_the_schema(error):
                    # A traceback for each half of a batch would be the larger part of the work.
                    trace = None if self._traceback_logged or isinstance(error, UnprocessableEvents) else error
                    self._traceback_logged = True
                    _log.warning("batch failed", records=len(events), error=type(error).__name__, exc_info=trace)
                    return error
                TRANSIENT_RETRIES.labels(self._topic, type(error).__name__).inc()
                _log.warning("batch tried again", records=len(events), error=type(error).__name__)
                if self._stopping or time.monotonic() > deadline:
                    _log.warning("work given up", records=len(events), stopping=self._stopping)
                    raise
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
                delay_s = min(delay_s * 2, RETRY_DELAY_S_MAX)
            else:
                return None


def _is_of_the_schema(error: Exception) -> bool:
    """Whether a right, table or column is missing: an operator mends that, and no event is refused for it."""
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "")[:2] in _SCHEMA_CLASSES


class Subscribers:
    """The subscribers of one service's worker. `subscriber` registers a function for a topic, as a broker of FastStream
    does; each has a consumer of its own, with its own pace, so that a stop of one does not hold the others."""

    def __init__(
        self, settings: ServiceSettings, *, group: str, database: Database, clock: Clock, health: Health
    ) -> None:
        self._settings = settings
        self._group = group
        self._database = database
        self._clock = clock
        self._health = health
        self.consumers: list[Consumer] = []

    def subscriber(
        self, topic: str, *, linger_s: float = 0.0, faults: FaultPoints | None = None, reader: Reader = received
    ) -> Callable[[Handler], Handler]:
        """Decorates the function that settles the batches of a topic. Records may gather first, for `linger_s` at
        most."""

        def register(handler: Handler) -> Handler:
            consumer = Consumer(
                self._settings.kafka,
                client_id=f"{self._group}-{self._settings.instance}-{topic}",
                group=self._group,
                topic=topic,
                handler=handler,
                database=self._database,
                clock=self._clock,
                faults=faults or FaultPoints(None),
                health=self._health,
                linger_s=linger_s,
                reader=reader,
            )
            self.consumers.append(consumer)
            return handler

        return register


class _Drain(RebalanceListener):  # type: ignore[misc]
    """Delays a rebalance until the batch in flight is committed, which saves duplicates and is not needed for
    correctness. Afterwards the newly assigned partitions get their starting offsets."""

    def __init__(
        self,
        busy: asyncio.Lock,
        faults: FaultPoints,
        revoke: Callable[[], None],
        begin: Callable[[Sequence[TopicPartition]], Awaitable[None]],
    ) -> None:
        self._busy = busy
        self._faults = faults
        self._revoke = revoke
        self._begin = begin

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        self._revoke()
        if revoked:
            self._faults.reach("revoke")
        async with self._busy:
            return

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        _log.info("partitions assigned", partitions=sorted(f"{entry.topic}-{entry.partition}" for entry in assigned))
        await self._begin(assigned)
