"""A reader that waits for its place in the group still counts as one that reads: else the place would never come."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupAuthorizationFailedError

import services.chassis.kafka as kafka_module
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.quarantine import Refused
from services.chassis.records import RecordReader
from tests.support.events import publish, usage_record
from tests.support.parts import at_work, usage_consumer
from tests.support.waiting import eventually

IDLE_S_MAX = 3.0


async def _publish_and_see(bootstrap_servers: str, seen: set[Any]) -> None:
    await publish(bootstrap_servers, sent := [usage_record("m") for _ in range(20)])
    wanted = {record.event_id for record in sent}
    await eventually(lambda: wanted <= seen, what="the records")


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

    async with at_work(usage_consumer(bootstrap_servers, database, handler, session_timeout_ms=30_000)):
        await _publish_and_see(bootstrap_servers, seen)
        assert revoked_at_work, "the reader kept its place in the group"
        await _publish_and_see(bootstrap_servers, seen)


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

    consumer = usage_consumer(bootstrap_servers, database, handler, session_timeout_ms=30_000)
    async with at_work(consumer):
        await _publish_and_see(bootstrap_servers, seen)
        reader = consumer._subscription.reader
        assert reader is not None
        reader._coordinator.request_rejoin()
        await eventually(lambda: refused > 0, what="an error in the rebalance")
        await _publish_and_see(bootstrap_servers, seen)
