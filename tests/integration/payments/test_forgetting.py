"""Old events and requests are forgotten, and nothing that is still needed."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from services.payments.inbox.domain import IncomingEvent
from services.payments.inbox.repository import delete_events, store_event
from services.payments.jobs import Forgetting
from services.payments.requests.domain import NewRequest
from services.payments.requests.repository import add_request, delete_requests
from tests.integration.payments.world import World
from tests.support.databases import connected, opened

# Years before everything that other tests leave.
AT = datetime(2020, 1, 1, tzinfo=UTC)
KEEP = timedelta(days=90)


def clock() -> datetime:
    return AT + KEEP


async def event(connection: Any, received_at: datetime, type_: str) -> str:
    event_id = f"evt_{uuid4().hex}"
    incoming = IncomingEvent(event_id, type_, False, None, None, None)
    assert await store_event(connection, incoming, b"{}", received_at)
    return event_id


async def test_an_event_goes_when_it_is_old_and_done_without_a_fault(world: World) -> None:
    old, new = AT - timedelta(seconds=1), AT
    # What the worker of the other tests could take is not due in its time.
    async with opened(world.servers.dsn("payments"), pool_size=1) as database:
        async with database.transaction() as connection:
            ids = [await event(connection, at, "unknown") for at in (old, new, old, old)]
            done, young, waiting, aside = ids
            driver = "UPDATE webhook_events SET next_attempt_at = '2100-01-01'"
            await connection.exec_driver_sql(f"{driver} WHERE event_id = '{waiting}'")
            finished = "processed_at = received_at, outcome = 'IGNORED'"
            await connection.exec_driver_sql(
                f"UPDATE webhook_events SET {finished} WHERE event_id IN ('{done}', '{young}', '{aside}')"
            )
            await connection.exec_driver_sql(f"UPDATE webhook_events SET error = 'X' WHERE event_id = '{aside}'")
        forget = Forgetting(database, delete_events, keep=KEEP, clock=clock)
        assert await forget() == 1
        assert await forget() == 0
    left = await world.rows("SELECT event_id FROM webhook_events WHERE event_id = ANY($1)", ids)
    assert {row["event_id"] for row in left} == {young, waiting, aside}
    async with connected(world.servers.dsn("payments", owner=True)) as connection:
        await connection.execute("DELETE FROM webhook_events WHERE event_id = ANY($1)", ids)


async def test_a_request_goes_when_it_is_old_and_nothing_waits_in_its_lane(world: World) -> None:
    old, new = AT - timedelta(seconds=1), AT
    free, busy = f"tests/{uuid4()}", f"tests/{uuid4()}"
    asked = [(old, free, True), (new, free, True), (old, busy, False), (old, busy, True)]
    async with opened(world.servers.dsn("payments"), pool_size=1) as database:
        async with database.transaction() as connection:
            for at, lane, settled in asked:
                request = NewRequest(uuid4(), "tests", lane, None, None)
                assert await add_request(connection, request, topic="tests", data="{}", now=at) == "stored"
                change = "settled_at = received_at" if settled else "next_attempt_at = '2100-01-01'"
                await connection.exec_driver_sql(
                    f"UPDATE stripe_requests SET {change} WHERE request_id = '{request.request_id}'"
                )
        forget = Forgetting(database, delete_requests, keep=KEEP, clock=clock)
        assert await forget() == 1
        assert await forget() == 0
    rows = await world.rows("SELECT lane, received_at FROM stripe_requests WHERE lane = ANY($1)", [free, busy])
    assert sorted((row["lane"], row["received_at"]) for row in rows) == sorted([(free, new), (busy, old), (busy, old)])
    async with connected(world.servers.dsn("payments", owner=True)) as connection:
        await connection.execute("DELETE FROM stripe_requests WHERE lane = ANY($1)", [free, busy])
