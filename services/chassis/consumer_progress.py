"""Waiting, for a bounded time, until every group that reads a topic has read what was just published.

An answer that depends on another service's worker is given after that, so a caller that asks the other service next
sees its own change. The wait is a courtesy: when it runs out, the answer is still true and the change still arrives.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg
import sqlalchemy as sa
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from rappen_contracts.registry import source_topic
from services.chassis.database import Database, is_transient
from services.chassis.logging import get_logger
from services.chassis.settings import KafkaSettings

__all__ = ["ConsumerProgress"]

POLL_S = 0.01
WAIT_S_MAX = 3.0
REQUEST_TIMEOUT_MS = 2_000

_log = get_logger(__name__)


class ConsumerProgress:
    """How far the consumer groups of a topic have read, as Kafka says. `start` before use, `stop` at the end."""

    def __init__(self, kafka: KafkaSettings, database: Database, *, client_id: str) -> None:
        self._database = database
        self._options = {
            "bootstrap_servers": kafka.bootstrap_servers,
            "client_id": f"{client_id}-progress",
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
        }
        self._admin: AIOKafkaAdminClient | None = None
        self._ends: AIOKafkaConsumer | None = None
        self._connecting = asyncio.Lock()

    async def start(self) -> None:
        """Connects; a broker that is away is tried again when somebody waits, because the wait is only a courtesy."""
        try:
            await self._connect()
        except (OSError, KafkaError) as error:
            _log.warning("consumer progress not connected", error=type(error).__name__)

    async def _connect(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        """The clients, made once, in the event loop that uses them, by the first caller; closed again if they do not
        start."""
        async with self._connecting:
            if self._admin is None:
                admin = AIOKafkaAdminClient(**self._options)
                try:
                    await admin.start()
                except BaseException:
                    await admin.close()
                    raise
                self._admin = admin
            if self._ends is None:
                ends = AIOKafkaConsumer(**self._options, group_id=None, enable_auto_commit=False)
                try:
                    await ends.start()
                except BaseException:
                    await ends.stop()
                    raise
                self._ends = ends
            return self._admin, self._ends

    async def stop(self) -> None:
        """Disconnects."""
        if self._ends is not None:
            await self._ends.stop()
        if self._admin is not None:
            await self._admin.close()

    async def caught_up(self, topic: str) -> bool:
        """Whether, within the limit, the outbox was relayed and every group has read the topic to its present end."""
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                await self._relayed()
                await self._read(topic)
        except Exception as error:
            # The change is committed, whatever Kafka or PostgreSQL answer now; any other error is a bug.
            if not is_transient(error) and not isinstance(error, KafkaError | asyncpg.PostgresError):
                raise
            _log.warning("consumers not caught up", topic=topic, error=type(error).__name__)
            return False
        return True

    async def _relayed(self) -> None:
        """A connection is borrowed for each look and not for the wait, during which others need it."""
        async with self._database.reading() as connection:
            last = await connection.scalar(sa.text("SELECT max(id) FROM outbox"))
        if last is not None:
            await _until(lambda: self._gone(last))

    async def _gone(self, last: int) -> bool:
        async with self._database.reading() as connection:
            waits = await connection.scalar(
                sa.text("SELECT EXISTS (SELECT 1 FROM outbox WHERE id <= :last)"), {"last": last}
            )
        return not waits

    async def _read(self, topic: str) -> None:
        admin, consumer = await self._connect()
        partitions = [TopicPartition(topic, number) for number in range(source_topic(topic).partitions)]
        ends = {at: end for at, end in (await consumer.end_offsets(partitions)).items() if end > 0}
        for group in source_topic(topic).groups:
            await _until(lambda group=group: _passed(admin, group, ends))  # type: ignore[misc]


async def _passed(admin: AIOKafkaAdminClient, group: str, ends: dict[TopicPartition, int]) -> bool:
    committed = await admin.list_consumer_group_offsets(group, partitions=list(ends))
    return all(at in committed and committed[at].offset >= end for at, end in ends.items())


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    delay_s, started = POLL_S, time.monotonic()
    while not await condition():
        await asyncio.sleep(delay_s)
        delay_s = POLL_S if time.monotonic() - started < 0.5 else POLL_S * 5
