"""What is finished after Stripe, the process or an operator came between."""

import asyncio
import json
from uuid import uuid4

import httpx
import pytest

from tests.integration.payments.world import World
from tests.support.waiting import eventually


async def fault(world: World, path: str, status: int, *, times: int, after_effect: bool = False) -> None:
    body = {"path": path, "status": status, "times": times, "after_effect": after_effect}
    assert (await world.control.post("/faults", json=body)).status_code == 200


async def test_an_event_is_tried_again_from_the_store_while_stripe_fails(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    # The client itself tries three times, so this fails one whole try and a part of the next.
    await fault(world, f"/v1/checkout/sessions/{session_id}", 500, times=4)
    await world.pay(session_id)

    async def failed_once() -> bool:
        rows = await world.rows("SELECT error, outcome FROM webhook_events WHERE object_id = $1", session_id)
        return bool(rows) and rows[0]["error"] == "STRIPE_UNAVAILABLE" and rows[0]["outcome"] is None

    await eventually(failed_once, what="a failed try")
    assert await world.processed(session_id) == ["CREDITED"]
    (row,) = await world.rows("SELECT attempts, error FROM webhook_events WHERE object_id = $1", session_id)
    assert row == {"attempts": 2, "error": None}
    assert len(await world.published(person.mandate_id)) == 1
    deliveries = (await world.control.get("/deliveries")).json()
    (event_id,) = [
        entry["event_id"]
        for entry in await world.rows("SELECT event_id FROM webhook_events WHERE object_id = $1", session_id)
    ]
    assert [entry["event"] for entry in deliveries].count(event_id) == 1


async def test_while_stripe_is_away_checkouts_are_refused_and_work_again_after(world: World) -> None:
    person = world.person()
    await fault(world, "/v1/checkout/sessions", 500, times=3)
    refused = await person.create(key="k")
    assert (refused.status_code, refused.json()["code"]) == (503, "STRIPE_UNAVAILABLE")
    assert "fake" not in refused.text
    again = await person.create(key="k")
    assert again.status_code == 200
    (row,) = await world.rows("SELECT stripe_attempt FROM checkouts WHERE mandate_id = $1", person.mandate_id)
    # Stripe repeats a failure of its own for the same key for a day, so the next try had another key.
    assert row["stripe_attempt"] == 2


async def test_an_answer_of_stripes_that_got_lost_makes_no_second_session(world: World) -> None:
    person = world.person()
    await fault(world, "/v1/checkout/sessions", 503, times=1, after_effect=True)
    assert (await person.create(key="k")).status_code == 200
    sessions = [entry for entry in await world.sessions() if entry["metadata"].get("mandateId") == person.mandate_id]
    assert len(sessions) == 1


@pytest.mark.parametrize("point", ["payments_checkout_committed", "payments_session_opened"])
async def test_a_checkout_cut_off_by_a_crash_is_finished_with_the_same_key(world: World, point: str) -> None:
    person = world.person()
    hit = world.arm(point)
    with pytest.raises(httpx.TransportError):
        await person.create(key="k")
    await world.killed(hit)
    finished = await person.create(key="k")
    assert finished.status_code == 200
    sessions = [entry for entry in await world.sessions() if entry["metadata"].get("mandateId") == person.mandate_id]
    assert [entry["url"] for entry in sessions] == [finished.json()["redirectUrl"]]
    (row,) = await world.rows("SELECT stripe_session_id FROM checkouts WHERE mandate_id = $1", person.mandate_id)
    assert row["stripe_session_id"] == sessions[0]["id"]


async def test_a_session_that_was_paid_although_we_crashed_before_noting_it_is_credited(world: World) -> None:
    person = world.person()
    hit = world.arm("payments_session_opened")
    with pytest.raises(httpx.TransportError):
        await person.create()
    await world.killed(hit)
    (session_id,) = [
        entry["id"] for entry in await world.sessions() if entry["metadata"].get("mandateId") == person.mandate_id
    ]
    await world.pay(session_id)
    assert await world.processed(session_id) == ["CREDITED"]
    assert len(await world.published(person.mandate_id)) == 1
    assert (await world.checkout_of(session_id))["state"] == "PAID"


async def test_a_kill_between_stripes_answer_and_the_commit_of_a_webhook_credits_once(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    hit = world.arm("payments_before_commit")
    await world.pay(session_id)
    await world.died(hit)
    assert await world.rows("SELECT 1 FROM payments WHERE stripe_session_id = $1", session_id) == []
    await world.restart()

    async def credited() -> bool:
        rows = await world.rows("SELECT outcome FROM webhook_events WHERE object_id = $1", session_id)
        return any(row["outcome"] == "CREDITED" for row in rows)

    # The lease of the worker that died has to end first.
    await eventually(credited, what="the credit")
    assert len(await world.published(person.mandate_id)) == 1
    assert (await person.confirm(session_id)).json()["alreadyCredited"] is True


async def test_a_kill_before_the_commit_of_a_confirm_credits_once(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id, drop=True)
    hit = world.arm("payments_before_commit")
    with pytest.raises(httpx.TransportError):
        await person.confirm(session_id)
    await world.killed(hit)
    assert (await person.confirm(session_id)).json()["credited"] is True
    assert (await person.confirm(session_id)).json()["alreadyCredited"] is True
    assert len(await world.published(person.mandate_id)) == 1


async def test_a_kill_between_kafka_and_the_outbox_repeats_the_same_event_only(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    hit = world.arm("relay_produced")
    await world.pay(session_id)
    await world.killed(hit)
    events = await world.published(person.mandate_id, count=2)
    assert len({event.id for event in events}) == 1
    assert len({event.digest for event in events}) == 1


async def test_an_operator_sees_events_and_has_them_processed_again(world: World) -> None:
    event_id = f"evt_{uuid4().hex}"
    body = {"id": event_id, "type": "x.y", "livemode": False, "data": {"object": {"id": "x_1"}}}
    assert (await world.deliver(json.dumps(body).encode())).status_code == 200
    await world.event_outcome(event_id)
    (line,) = [line for line in world.command("events", "list").stdout.splitlines() if line.startswith(event_id)]
    assert "x.y  x_1" in line
    assert "IGNORED  attempts=1" in line
    retried = world.command("events", "retry", event_id)
    assert (retried.returncode, retried.stdout) == (0, f"{event_id}  is processed again\n")

    async def again() -> bool:
        rows = await world.rows("SELECT attempts, outcome FROM webhook_events WHERE event_id = $1", event_id)
        return rows == [{"attempts": 2, "outcome": "IGNORED"}]

    await eventually(again, what="a second try")
    assert world.command("events", "retry", "evt_unknown").returncode == 1


async def test_retrying_a_credited_event_credits_nothing(world: World) -> None:
    person = world.person()
    session_id = await person.session()
    await world.pay(session_id)
    await world.processed(session_id)
    (row,) = await world.rows("SELECT event_id FROM webhook_events WHERE object_id = $1", session_id)
    assert world.command("events", "retry", row["event_id"]).returncode == 0
    assert await world.event_outcome(row["event_id"]) == "ALREADY_CREDITED"
    assert len(await world.published(person.mandate_id)) == 1


async def test_the_application_role_cannot_change_or_remove_a_payment(world: World) -> None:
    grants = await world.rows(
        "SELECT privilege_type FROM information_schema.role_table_grants"
        " WHERE grantee = 'payments_app' AND table_schema = 'payments' AND table_name = 'payments'"
    )
    assert sorted(row["privilege_type"] for row in grants) == ["INSERT", "SELECT"]


@pytest.mark.parametrize("role", ["api", "worker"])
async def test_each_role_starts_and_stops_in_good_order(world: World, role: str) -> None:
    async with world.process(role) as process:
        assert process.running
    assert process.exit_code == 0


async def test_two_workers_share_the_inbox_and_credit_once(world: World) -> None:
    async with world.process("worker"):
        people = [world.person() for _ in range(5)]
        sessions = [await person.session() for person in people]
        await asyncio.gather(*(world.pay(session_id, duplicate=2, shuffle=True) for session_id in sessions))
        for session_id, person in zip(sessions, people, strict=True):
            assert await world.processed(session_id) == ["CREDITED"]
            assert len(await world.published(person.mandate_id)) == 1
