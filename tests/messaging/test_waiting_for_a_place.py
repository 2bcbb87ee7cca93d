"""A reader that waits for its place in the group still counts as one that reads: else the place would never come."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupAuthorizationFailedError

import services.chassis.kafka as kafka_module
from services.chassis.clock import system_clock
from services.chassis.consumer import Consumer, Handler, Received
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.quarantine import Refused
from services.chassis.records import RecordReader
from services.chassis.settings import KafkaSettings
from tests.support.events import publish, usage_record
from tests.support.ledger import eventually

IDLE_S_MAX = 3.0


@asynccontextmanager
async def _consuming(bootstrap_servers: str, database: Database, handler: Handler) -> AsyncIterator[Consumer]:
    consumer = Consumer(
        KafkaSettings(bootstrap_servers=bootstrap_servers, session_timeout_ms=30_000),
        client_id="tests",
        group=f"tests-{uuid4()}",
        topic="usage.recorded",
        handler=handler,
        database=database,
        clock=system_clock,
        faults=FaultPoints(None),
        health=Health(),
    )
    stop = asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    try:
        yield consumer
    finally:
        stop.set()
        await running


async def _publish_and_see(bootstrap_servers: str, seen: set[Any]) -> None:
    await publish(bootstrap_servers, sent := [usage_record("m") for _ in range(20)])
    wanted = {record.event_id for record in sent}

    async def all_of_it() -> bool:
        return wanted <= seen

    await eventually(all_of_it, what="the records", timeout_s=40)


@pytest.mark.timeout(120)
async def test_a_reader_that_was_put_out_of_its_group_for_a_long_batch_comes_back(
    bootstrap_servers: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_module, "MAX_POLL_INTERVAL_MS", int(IDLE_S_MAX * 1000))
    real, working, revoked_at_work = RecordReader.revoke, False, 0

    def revoke(reader: RecordReader) -> None:
        nonlocal revoked_at_work
        revoked_at_work += working
        real(reader)

    monkeypatch.setattr(RecordReader, "revoke", revoke)
    seen: set[Any] = set()

    async def handler(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        nonlocal working
        if not seen:
            working = True
            await asyncio.sleep(IDLE_S_MAX * 3)
            working = False
        seen.update(received.event.id for received in events)
        return refused

    async with _consuming(bootstrap_servers, database, handler):
        await _publish_and_see(bootstrap_servers, seen)
        assert revoked_at_work, "the reader kept its place in the group"
        await _publish_and_see(bootstrap_servers, seen)


@pytest.mark.timeout(120)
async def test_an_error_of_the_group_in_the_middle_of_a_rebalance_holds_it_up_only_until_it_is_told(
    bootstrap_servers: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = GroupCoordinator._do_rejoin_group, 0
    seen: set[Any] = set()

    async def rejoin(coordinator: GroupCoordinator, subscription: Any) -> Any:
        nonlocal refused
        if seen and not refused:
            refused += 1
            raise GroupAuthorizationFailedError("somebody changes the rights of this group")
        return await real(coordinator, subscription)

    monkeypatch.setattr(GroupCoordinator, "_do_rejoin_group", rejoin)

    async def handler(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        seen.update(received.event.id for received in events)
        return refused

    async def was_refused() -> bool:
        return refused > 0

    async with _consuming(bootstrap_servers, database, handler) as consumer:
        await _publish_and_see(bootstrap_servers, seen)
        reader = consumer._subscription.reader
        assert reader is not None
        reader._coordinator.request_rejoin()
        await eventually(was_refused, what="an error in the rebalance", timeout_s=20)
        await _publish_and_see(bootstrap_servers, seen)
