"""What a process commits its relay publishes at once, and not only at its next look."""

from uuid import uuid4

import pytest

from rappen_contracts.registry import BALANCE_LOW_V1
from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.outbox import OUTBOX, OutboxRow, append_outbox
from services.chassis.relay import Relay
from services.chassis.settings import KafkaSettings
from tests.support.events import new_mandate
from tests.support.parts import at_work
from tests.support.stack import ServerPair
from tests.support.topics import read_topic
from tests.support.waiting import eventually


def event(key: str) -> OutboxRow:
    return OutboxRow(BALANCE_LOW_V1.name, key, BALANCE_LOW_V1.type, uuid4(), system_clock(), "{}")


async def append(database: Database, key: str) -> None:
    async with database.transaction() as connection:
        await append_outbox(connection, [event(key)])


async def test_a_relay_that_looks_once_an_hour_publishes_what_is_committed(
    servers: ServerPair, database: Database
) -> None:
    kafka = KafkaSettings(bootstrap_servers=servers.kafka.bootstrap_servers)
    relay = Relay(
        database,
        kafka,
        client_id="relay",
        source="/tests",
        clock=system_clock,
        faults=FaultPoints(None),
        idle_s=3600,
    )
    key = new_mandate()

    async def published() -> int:
        return len(await read_topic(kafka.bootstrap_servers, BALANCE_LOW_V1.name, key=key))

    async with at_work(relay):
        # The first may be found by the look at the beginning.
        for count in (1, 2, 3):
            await append(database, key)

            async def all_of_them(count: int = count) -> bool:
                return await published() == count

            await eventually(all_of_them, what=f"event {count}", timeout_s=60)


async def append_and_fail(database: Database) -> None:
    async with database.transaction() as connection:
        await append_outbox(connection, [event(new_mandate())])
        raise RuntimeError


async def test_what_is_rolled_back_is_no_notice(database: Database) -> None:
    notice = database.notice(OUTBOX)
    notice.clear()
    with pytest.raises(RuntimeError):
        await append_and_fail(database)
    assert not notice.is_set()
    await append(database, new_mandate())
    assert notice.is_set()
