"""The relay: outbox rows, unpublished states and quarantined records to Kafka, at least once, in the order of writing.

There is no cursor: rows become visible out of the order of their ids, and a position would skip the late ones. A row
is deleted only after Kafka has acknowledged it, so a crash in between publishes it again with the same event id. One
relay works at a time, held by an advisory lock, so that the order of an account's events is kept.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC
from typing import Any, Protocol, Self

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from services.chassis.clock import Clock
from services.chassis.database import Database, driver_connection, is_transient
from services.chassis.faults import FaultPoints
from services.chassis.kafka import close_producer, make_producer
from services.chassis.logging import get_logger
from services.chassis.metrics import OUTBOX_OLDEST_SECONDS, OUTBOX_PUBLISHED, OUTBOX_ROWS, SET_ASIDE
from services.chassis.outbox import OUTBOX, OutboxRow
from services.chassis.process import pause, pause_unless, unless_stopped
from services.chassis.quarantine import dead_letter_headers, sent_key
from services.chassis.settings import KafkaSettings, ServiceSettings

__all__ = ["Relay"]

ROWS_MAX = 5_000
# Dead letters are taken by number and by size: each may be as large as the largest record, twice.
DEAD_LETTERS_MAX = 100
DEAD_LETTERS_BYTES_MAX = 4 * 1024 * 1024
# How often it looks; what this process has written it is told of.
IDLE_S = 0.1
GATHER_S = 0.005
RETRY_S = 1.0
# While the broker is away a produce call would wait for ever, because idempotent batches never expire.
ACKNOWLEDGE_TIMEOUT_S = 20.0
_LOCK_KEY = 7_262
# One database holds the schemas of several services, each with a relay of its own.
_LOCK = "SELECT pg_try_advisory_lock($1, hashtext(current_schema()))"
_UNLOCK = "SELECT pg_advisory_unlock($1, hashtext(current_schema()))"
# Whether this very session has it.
_HELD = (
    "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted"
    " AND classid = $1::int4::oid AND objid = hashtext(current_schema())::oid AND objsubid = 2)"
)
CONFIRM_TIMEOUT_S = 5.0

_log = get_logger(__name__)


class States(Protocol):
    """Things of which only the newest state counts, on a compacted topic: marked as they change, read when
    published."""

    async def read(self, connection: asyncpg.Connection, limit: int) -> Sequence[tuple[OutboxRow, Any]]:
        """Up to `limit` unpublished states, each with what `mark_published` needs."""
        ...

    async def mark_published(self, connection: asyncpg.Connection, published: Sequence[Any]) -> None:
        """Deletes the marks of those that have not changed since they were read."""
        ...


class Relay:
    """Brings one service's outbox and quarantine to Kafka, as a component of its worker process."""

    name = "relay"

    def __init__(
        self,
        database: Database,
        kafka: KafkaSettings,
        *,
        client_id: str,
        source: str,
        clock: Clock,
        faults: FaultPoints,
        states: States | None = None,
        idle_s: float = IDLE_S,
    ) -> None:
        self._states = states
        self._idle_s = idle_s
        self._written = database.notice(OUTBOX)
        self._database = database
        self._kafka = kafka
        self._client_id = client_id
        self._source = source.encode()
        self._clock = clock
        self._faults = faults

    @classmethod
    def of_service(cls, service: str, settings: ServiceSettings, database: Database, *, clock: Clock) -> Self:
        """The relay of a service that has no states."""
        return cls(
            database,
            settings.kafka,
            client_id=f"{service}-relay-{settings.instance}",
            source=f"/rappen/{service}",
            clock=clock,
            faults=FaultPoints(settings.faults_folder),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Relays until told to stop; a broker or database that is away is waited for."""
        while not stop.is_set():
            try:
                await self._relay(stop)
            except Exception as error:
                # A client that failed once may fail for ever (sequence numbers), so each try begins with a new one.
                if not is_transient(error) and not isinstance(error, KafkaError):
                    raise
                _log.warning("relay tries again", error=type(error).__name__)
                await pause(stop, RETRY_S)

    async def _relay(self, stop: asyncio.Event) -> None:
        producer = make_producer(self._kafka, client_id=self._client_id)
        try:
            if not await unless_stopped(stop, producer.start()):
                return
            async with self._database.reading() as connection:
                await self._work(driver_connection(connection), producer, stop)
        finally:
            await close_producer(producer)

    async def _work(self, connection: asyncpg.Connection, producer: AIOKafkaProducer, stop: asyncio.Event) -> None:
        """Works while this session holds the lock; another process's relay waits here without one."""
        while not stop.is_set():
            if not await connection.fetchval(_LOCK, _LOCK_KEY):
                await pause(stop, RETRY_S)
                continue
            try:
                while not stop.is_set():
                    self._written.clear()
                    more = [
                        await self._move_outbox(connection, producer),
                        await self._publish_states(connection, producer),
                        await self._move_dead_letters(connection, producer),
                    ]
                    if not any(more):
                        await pause_unless(self._written, stop, self._idle_s)
                        # What many commit at once is published together.
                        await pause(stop, GATHER_S)
            finally:
                if not connection.is_closed():
                    await connection.execute(_UNLOCK, _LOCK_KEY)

    async def _move_outbox(self, connection: asyncpg.Connection, producer: AIOKafkaProducer) -> bool:
        """Whether more may wait."""
        rows = await connection.fetch(
            "SELECT topic, key, type, event_id, occurred_at, data, traceparent, id, created_at"
            " FROM outbox ORDER BY id LIMIT $1",
            ROWS_MAX,
        )
        OUTBOX_ROWS.set(len(rows))
        OUTBOX_OLDEST_SECONDS.set(max(0.0, time.time() - rows[0]["created_at"].timestamp()) if rows else 0.0)
        if rows:
            await self._publish(connection, producer, [OutboxRow(*row[:-2]) for row in rows])
            await connection.execute("DELETE FROM outbox WHERE id = ANY($1)", [row["id"] for row in rows])
        return len(rows) == ROWS_MAX

    async def _publish_states(self, connection: asyncpg.Connection, producer: AIOKafkaProducer) -> bool:
        """Whether more may wait."""
        if self._states is None:
            return False
        found = await self._states.read(connection, ROWS_MAX)
        if found:
            await self._publish(connection, producer, [row for row, _ in found])
            self._faults.reach("relay_produced_states")
            await self._states.mark_published(connection, [mark for _, mark in found])
        return len(found) == ROWS_MAX

    async def _publish(
        self, connection: asyncpg.Connection, producer: AIOKafkaProducer, rows: Sequence[OutboxRow]
    ) -> None:
        """Returns when Kafka has acknowledged all of them.

        What was read may be old by now: a process that stood still in between may have lost the lock, and another one
        published newer states. So the lock is confirmed before anything is sent, on the connection that holds it.
        """
        self._faults.reach("relay_read")
        await _still_ours(connection)
        sent = [
            await producer.send(row.topic, key=row.key.encode(), value=row.data.encode(), headers=self._headers(row))
            for row in rows
        ]
        await _acknowledged(sent)
        for row in rows:
            OUTBOX_PUBLISHED.labels(row.topic).inc()
        self._faults.reach("relay_produced")

    def _headers(self, row: OutboxRow) -> list[tuple[str, bytes]]:
        time_text = row.occurred_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", str(row.event_id).encode()),
            ("ce_source", self._source),
            ("ce_type", row.type.encode()),
            ("ce_time", time_text.encode()),
            ("content-type", b"application/json"),
        ]
        if row.traceparent is not None:
            headers.append(("traceparent", row.traceparent.encode()))
        return headers

    async def _move_dead_letters(self, connection: asyncpg.Connection, producer: AIOKafkaProducer) -> bool:
        """Whether more may wait: a piece is bounded by its bytes too, so only an empty one is the last."""
        rows = await connection.fetch(
            "SELECT * FROM quarantine WHERE id IN (SELECT id FROM ("
            "SELECT id, row_number() OVER (ORDER BY id) AS number,"
            " sum(coalesce(octet_length(value), 0) + octet_length(headers)) OVER (ORDER BY id) AS size"
            " FROM (SELECT * FROM quarantine WHERE relayed_at IS NULL ORDER BY id LIMIT $1) AS next"
            ") AS measured WHERE number = 1 OR size <= $2) ORDER BY id",
            DEAD_LETTERS_MAX,
            DEAD_LETTERS_BYTES_MAX,
        )
        if not rows:
            return False
        sent = [future for row in rows if (future := await _send_dead_letter(producer, row)) is not None]
        await _acknowledged(sent)
        await connection.execute(
            "UPDATE quarantine SET relayed_at = $2 WHERE id = ANY($1)", [row["id"] for row in rows], self._clock()
        )
        return True


async def _send_dead_letter(producer: AIOKafkaProducer, row: asyncpg.Record) -> asyncio.Future[object] | None:
    """None for a letter that cannot be sent as it is stored: it stays in quarantine and holds up no others."""
    try:
        future: asyncio.Future[object] = await producer.send(
            f"{row['topic']}.{row['group_id']}.dlq",
            key=sent_key(row),
            value=row["value"],
            headers=dead_letter_headers(row),
        )
    except (ValueError, TypeError, MessageSizeTooLargeError) as error:
        SET_ASIDE.labels("dead letter").inc()
        _log.error("dead letter set aside", number=row["id"], error=type(error).__name__)
        return None
    return future


async def _still_ours(connection: asyncpg.Connection) -> None:
    """Raises when the connection is gone, and the lock with it; its server has then let another relay begin."""
    async with asyncio.timeout(CONFIRM_TIMEOUT_S):
        if not await connection.fetchval(_HELD, _LOCK_KEY):
            raise ConnectionError("the lock of the relay is lost")


async def _acknowledged(sent: Sequence[asyncio.Future[object]]) -> None:
    async with asyncio.timeout(ACKNOWLEDGE_TIMEOUT_S):
        await asyncio.gather(*sent)
