"""POST /api/billing/holds, /capture, /void: reserved where a check allows it, settled once, answered the same again."""

import asyncio
from uuid import UUID, uuid4

import httpx
import pytest

from services.billing.api import serve_routes
from services.billing.app import application
from services.billing.settings import BillingSettings
from services.chassis.caller import Caller, CallerVerifier
from services.chassis.clock import system_clock
from services.chassis.faults import FaultPoints
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, member_of, system_admin
from tests.support.charging import charge
from tests.support.events import new_mandate, usage_record
from tests.support.holding import Holding, chf, publisher, usage_event
from tests.support.ledger import Books


@pytest.fixture
def holding(api: BillingApi, books: Books, mandate: str) -> Holding:
    return Holding(api, books, mandate)


async def test_a_hold_reserves_what_a_check_then_no_longer_sees(holding: Holding) -> None:
    await holding.credit(2)
    answer = await holding.ask("0.75")
    made = answer.json()
    assert (answer.status_code, made["amount"], made["balanceAfterHold"]) == (201, chf("0.750000"), chf("1.250000"))
    assert made["expiresAt"].endswith("Z")
    seen = await holding.check("1.3")
    assert (seen["reason"], seen["currentBalance"], seen["heldAmount"], seen["shortfall"]) == (
        "INSUFFICIENT_BALANCE",
        chf("2.000000"),
        chf("0.750000"),
        chf("0.050000"),
    )
    assert (await holding.check("1.25"))["allowed"] is True
    accounts = await holding.api.call(
        admin_of(holding.mandate), "GET", f"/api/billing/admin/accounts/{holding.mandate}"
    )
    assert accounts.json()[0]["heldAmount"] == 0.75
    assert await holding.books.failing() == {}


async def test_what_a_check_refuses_is_402_with_its_reason_and_figures(holding: Holding) -> None:
    await holding.credit(1)
    answer = await holding.ask("1.000001")
    document = answer.json()
    assert (answer.status_code, document["code"], document["shortfall"]) == (
        402,
        "INSUFFICIENT_BALANCE",
        chf("0.000001"),
    )
    assert document["detail"] == "Nothing is reserved: the balance less what is held does not cover it."
    assert (await holding.ask("1", "stranger")).json()["code"] == "NOT_A_MEMBER"
    await holding.api.directory(holding.mandate, {"user-1": ["member"]}, providers={"member": ["anthropic"]})
    assert (await holding.ask("1", provider="openai")).json()["code"] == "PROVIDER_NOT_ALLOWED"
    assert await holding.held() == {}
    assert (await holding.ask("1", provider="anthropic")).status_code == 201


async def test_a_refusal_stores_nothing_so_that_the_same_key_may_succeed_later(holding: Holding) -> None:
    assert (await holding.ask("1", key="later")).status_code == 402
    await holding.credit(1)
    assert (await holding.ask("1", key="later")).status_code == 201


async def test_an_estimate_is_held_at_its_final_price(holding: Holding) -> None:
    await holding.credit(5)
    assert (await holding.ask(None, estimate={"cost": chf("0.1")})).json()["amount"] == chf("0.150000")
    unknown = await holding.ask(None, estimate={"provider": "none", "model": "such", "tokens": {"input": 1}})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "PRICE_UNKNOWN")
    everything = await holding.ask(None, estimate={"cost": chf("3.233333333333")})
    assert everything.json()["balanceAfterHold"] == chf("0.000000")


async def test_fifty_holds_at_once_never_exceed_the_balance(holding: Holding) -> None:
    await holding.credit(7)
    answers = await asyncio.gather(*(holding.ask("1") for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [201] * 7 + [402] * 43
    assert len({answer.json()["holdId"] for answer in answers if answer.status_code == 201}) == 7
    left = sorted(answer.json()["balanceAfterHold"]["amount"] for answer in answers if answer.status_code == 201)
    assert left == [f"{number}.000000" for number in range(7)]
    assert await holding.held() == {None: 7_000_000}
    assert await holding.books.failing() == {}


async def test_holds_beside_charges_see_every_balance(holding: Holding) -> None:
    await holding.credit(10)
    charges = (charge(holding.api.database, usage_record(holding.mandate, amount="0.5")) for _ in range(4))
    answers, *_ = await asyncio.gather(asyncio.gather(*(holding.ask("1") for _ in range(20))), *charges)
    given = sum(answer.status_code == 201 for answer in answers)
    # The charges take 3 in all; those that come after the holds take what is held by nobody.
    assert 7 <= given <= 10
    assert await holding.held() == {None: given * 1_000_000}
    assert await holding.books.failing() == {}


async def test_a_repeat_with_the_same_key_is_answered_as_the_first(holding: Holding) -> None:
    await holding.credit(5)
    first = await holding.ask("1", key="one")
    again = await holding.ask("1", key="one")
    in_body = await holding.ask("1", key="other", idempotencyKey="one")
    assert first.status_code == again.status_code == in_body.status_code == 201
    assert first.json() == again.json() == in_body.json()
    other = await holding.ask("2", key="one")
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    # Whatever became of the hold.
    assert (await holding.void(first.json()["holdId"])).status_code == 200
    assert (await holding.ask("1", key="one")).json() == first.json()
    assert await holding.held() == {}


async def test_repeats_at_once_are_one_hold(holding: Holding) -> None:
    await holding.credit(5)
    answers = await asyncio.gather(*(holding.ask("1", key="one") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert all(answer.json() == answers[0].json() for answer in answers)
    assert await holding.held() == {None: 1_000_000}


async def test_the_routes_of_holds_answer_as_the_direct_paths_do(holding: Holding) -> None:
    await holding.credit(5)
    app, verifier = application(), CallerVerifier(audience="billing", secret=holding.api.secret)
    settings, database = BillingSettings.model_construct(), holding.api.database
    serve_routes(app, settings, database=database, caller=verifier, clock=system_clock, faults=FaultPoints(None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://billing") as client:
        behind = Holding(BillingApi(client, holding.api.secret, database), holding.books, holding.mandate)
        first = await behind.ask("1", key="one")
        assert first.status_code == 201
        assert (await holding.ask("1", key="one")).json() == first.json()
        hold = first.json()["holdId"]
        captured = await behind.capture(hold, cost=chf("0.1"))
        assert captured.status_code == 200
        assert (await holding.capture(hold, cost=chf("0.1"))).json() == captured.json()
        for each in (behind, holding):
            answers = [await each.ask("1", key="k" * 256), await each.capture(hold), await each.capture("x")]
            assert [answer.status_code for answer in answers] == [422, 422, 422]
            assert answers[0].json()["errors"][0]["field"] == "Idempotency-Key"
            assert (await each.api.call(None, "POST", "/api/billing/holds", json={})).status_code == 401
            assert (await each.api.call(publisher(), "GET", "/api/billing/holds")).status_code == 405


async def test_large_and_small_amounts_are_written_without_exponents(holding: Holding) -> None:
    await holding.credit(20_000)
    answer = await holding.ask("1e4")
    assert (answer.json()["amount"], answer.json()["balanceAfterHold"]) == (chf("10000.000000"), chf("10000.000000"))
    captured = await holding.capture(answer.json()["holdId"], cost=chf("1E-6"))
    assert (captured.json()["amount"], captured.json()["balanceAfter"]) == (chf("0.000002"), chf("19999.999998"))
    assert (await holding.capture(await holding.hold("1"), cost=chf("1E+4"))).json()["amount"] == chf("15000.000000")


async def test_a_key_is_one_callers_in_one_mandate(holding: Holding) -> None:
    await holding.credit(5)
    first = await holding.hold("1", key="one")
    body = {"mandateId": holding.mandate, "userId": "user-1", "estimatedCost": chf("1"), "idempotencyKey": "one"}
    other = Caller(user_id="service:others", service=True, scopes=frozenset({"usage:check"}))
    answer = await holding.api.call(other, "POST", "/api/billing/holds", json=body)
    assert (answer.status_code, answer.json()["holdId"] != first) == (201, True)


async def test_captured_by_cost_it_is_a_usage_charge_with_the_holds_id(holding: Holding) -> None:
    await holding.credit(5)
    hold = await holding.hold("2", provider="anthropic", model="claude-sonnet-4-5", featureInstanceId="chat-1")
    answer = await holding.capture(hold, cost=chf("0.5"))
    captured = answer.json()
    assert (answer.status_code, captured["amount"], captured["balanceAfter"]) == (
        200,
        chf("0.750000"),
        chf("4.250000"),
    )
    assert captured["holdId"] == captured["eventId"] == hold
    assert await holding.state(hold) == ("CAPTURED", UUID(hold))
    assert await holding.held() == {}
    listed = (await holding.api.call(member_of(holding.mandate), "GET", "/api/billing/transactions")).json()[0]
    assert listed["id"] == captured["transactionId"]
    assert (listed["referenceId"], listed["aicoreProvider"], listed["aicoreModel"], listed["featureInstanceId"]) == (
        hold,
        "anthropic",
        "claude-sonnet-4-5",
        "chat-1",
    )
    assert (listed["description"], listed["amount"]) == ("AI Usage: anthropic", 0.75)
    (row,) = await holding.books.fetch(
        "SELECT derivation::jsonb ->> 'hold_id' FROM transactions WHERE event_id = $1", UUID(hold)
    )
    assert row[0] == hold
    assert (await holding.capture(hold, cost=chf("0.5"))).json() == captured
    assert await holding.books.failing() == {}


async def test_more_than_was_held_can_be_captured_and_nothing(holding: Holding) -> None:
    await holding.credit(1)
    more = await holding.capture(await holding.hold("1"), cost=chf("4"))
    assert (more.json()["amount"], more.json()["balanceAfter"]) == (chf("6.000000"), chf("-5.000000"))
    await holding.credit(6)
    nothing = await holding.hold("1")
    answer = await holding.capture(nothing, cost=chf("0"))
    assert answer.json() == {
        "holdId": nothing,
        "eventId": nothing,
        "transactionId": None,
        "amount": chf("0.000000"),
        "balanceAfter": None,
    }
    assert (await holding.capture(nothing, cost=chf("0"))).json() == answer.json()
    assert await holding.held() == {}
    assert await holding.books.failing() == {}


async def test_captured_by_an_event_it_is_that_events_charge(holding: Holding) -> None:
    await holding.credit(5)
    hold = await holding.hold("2")
    event = usage_event(holding.mandate, amount="0.1", workflow_id="w-1")
    answer = await holding.capture(hold, event=event)
    assert (answer.status_code, answer.json()["eventId"], answer.json()["amount"]) == (
        200,
        event["id"],
        chf("0.150000"),
    )
    assert await holding.state(hold) == ("CAPTURED", UUID(event["id"]))
    assert (await holding.capture(hold, event=event)).json() == answer.json()
    # The same event from a publisher is a repeat, and with other data a contradiction.
    await charge(
        holding.api.database, usage_record(holding.mandate, event_id=UUID(event["id"]), amount="0.1", workflow_id="w-1")
    )
    other = await holding.capture(
        await holding.hold("1"), event=usage_event(holding.mandate, event_id=UUID(event["id"]))
    )
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")
    assert await holding.books.charged([holding.mandate]) == 1
    assert await holding.held() == {None: 1_000_000}
    assert await holding.books.failing() == {}


async def test_an_event_that_was_charged_before_settles_its_hold_without_a_second_charge(holding: Holding) -> None:
    await holding.credit(5)
    hold, event = await holding.hold("2"), uuid4()
    record = usage_record(holding.mandate, event_id=event, amount="0.1")
    await charge(holding.api.database, record)
    assert await holding.held() == {None: 2_000_000}
    body = usage_event(holding.mandate, event_id=event, amount="0.1")
    answer = await holding.capture(hold, event=body)
    assert (answer.status_code, answer.json()["amount"]) == (200, chf("0.150000"))
    assert await holding.held() == {}
    assert await holding.books.charged([holding.mandate]) == 1
    assert await holding.books.failing() == {}


async def test_a_hold_is_settled_once(holding: Holding) -> None:
    await holding.credit(5)
    captured, voided = await holding.hold(), await holding.hold()
    assert (await holding.capture(captured, cost=chf("0.1"))).status_code == 200
    first = await holding.void(voided)
    assert (first.status_code, first.json()) == (200, {"holdId": voided, "amount": chf("1.000000")})
    assert (await holding.void(voided)).json() == first.json()
    for answer, code in (
        (await holding.capture(captured, cost=chf("0.2")), "HOLD_CAPTURED"),
        (await holding.capture(captured, event=usage_event(holding.mandate)), "HOLD_CAPTURED"),
        (await holding.void(captured), "HOLD_CAPTURED"),
        (await holding.capture(voided, cost=chf("0.1")), "HOLD_VOIDED"),
        (await holding.capture(voided, event=usage_event(holding.mandate)), "HOLD_VOIDED"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, code), answer.text
    assert await holding.books.charged([holding.mandate]) == 1
    assert await holding.held() == {}
    assert await holding.books.failing() == {}


async def test_captures_and_voids_at_once_are_one_outcome(holding: Holding) -> None:
    await holding.credit(50)
    for _ in range(3):
        hold = await holding.hold("1")
        works = [holding.capture(hold, cost=chf(f"0.{number % 3 + 1}")) for number in range(15)]
        answers = await asyncio.gather(*works, *(holding.void(hold) for _ in range(5)))
        good = [answer for answer in answers if answer.status_code == 200]
        assert {answer.status_code for answer in answers} <= {200, 409}
        assert len({str(answer.json()) for answer in good}) == 1
        state, _ = await holding.state(hold)
        assert state == ("VOIDED" if "eventId" not in good[0].json() else "CAPTURED")
    assert await holding.held() == {}
    assert await holding.books.failing() == {}


async def test_in_members_budgets_each_holds_on_their_own(holding: Holding) -> None:
    await holding.switch("PREPAY_USER")
    hold = await holding.hold("8", "user-1")
    assert (await holding.ask("3", "user-1")).status_code == 402
    assert (await holding.ask("3", "user-2")).status_code == 201
    assert await holding.held() == {"user-1": 8_000_000, "user-2": 3_000_000}
    captured = await holding.capture(hold, cost=chf("1"))
    assert captured.json()["balanceAfter"] == chf("8.500000")
    assert await holding.held() == {"user-2": 3_000_000}
    assert await holding.books.failing() == {}


async def test_holds_move_with_the_money_when_the_model_is_switched(holding: Holding) -> None:
    await holding.credit(9)
    holds = [await holding.hold("1", "user-1"), await holding.hold("0.5", "user-2"), await holding.hold("2", "user-1")]
    assert (await holding.switch("PREPAY_USER")).status_code == 200
    assert await holding.held() == {"user-1": 3_000_000, "user-2": 500_000}
    assert await holding.books.failing() == {}
    assert (await holding.capture(holds[0], cost=chf("0.2"))).status_code == 200
    assert await holding.held() == {"user-1": 2_000_000, "user-2": 500_000}
    assert (await holding.switch("UNLIMITED")).status_code == 200
    assert await holding.held() == {None: 2_500_000}
    assert await holding.books.failing() == {}
    unlimited = await holding.ask("100", "user-2")
    assert (unlimited.status_code, unlimited.json()["balanceAfterHold"]) == (201, chf("0.000000"))
    assert (await holding.capture(holds[1], cost=chf("0.2"))).json()["balanceAfter"] is None
    assert (await holding.switch("PREPAY_MANDATE")).status_code == 200
    assert await holding.held() == {None: 102_000_000}
    assert (await holding.void(unlimited.json()["holdId"])).status_code == 200
    assert (await holding.void(holds[2])).status_code == 200
    assert await holding.held() == {}
    assert await holding.books.failing() == {}


async def test_a_switch_among_holds_and_captures_loses_nothing(holding: Holding) -> None:
    await holding.credit(30)

    async def use(number: int) -> None:
        answer = await holding.ask("0.5", f"user-{number % 2 + 1}")
        if answer.status_code == 201:
            hold = answer.json()["holdId"]
            settled = await (holding.void(hold) if number % 3 == 0 else holding.capture(hold, cost=chf("0.1")))
            assert settled.status_code == 200, settled.text

    for model in ("PREPAY_USER", "PREPAY_MANDATE", "PREPAY_USER"):
        *_, switched = await asyncio.gather(*(use(number) for number in range(20)), holding.switch(model))
        assert switched.status_code == 200
        assert await holding.books.failing() == {}
    assert await holding.held() == {}


async def test_usage_that_cannot_be_priced_is_not_captured_and_the_hold_stays(holding: Holding) -> None:
    await holding.credit(5)
    hold = await holding.hold()
    no_rate = await holding.capture(hold, cost={"amount": "1", "currency": "JPY"})
    event = usage_event(holding.mandate, cost=None, model="unheard-of", tokens={"input": 5})
    no_price = await holding.capture(hold, event=event)
    for answer in (no_rate, no_price):
        assert (answer.status_code, answer.json()["code"]) == (422, "PRICE_UNKNOWN"), answer.text
    # As an event it waits for its price, and is still no charge.
    record = usage_record(
        holding.mandate, event_id=UUID(event["id"]), cost=None, model="unheard-of", tokens={"input": 5}
    )
    await charge(holding.api.database, record)
    assert (await holding.capture(hold, event=event)).json()["code"] == "PRICE_UNKNOWN"
    assert await holding.held() == {None: 1_000_000}
    assert await holding.books.charged([holding.mandate]) == 0


async def test_an_amount_beyond_the_ledger_is_refused_and_its_neighbours_are_not(holding: Holding) -> None:
    await holding.api.call(
        system_admin(), "POST", f"/api/billing/admin/settings/{holding.mandate}", json={"blockOnZeroBalance": False}
    )
    await holding.credit(1)
    holds = [await holding.hold("0.1") for _ in range(5)]
    rates = {"currency": "KWD", "rate": "999999", "validFrom": "2020-01-01T00:00:00Z"}
    assert (await holding.api.call(system_admin(), "POST", "/api/billing/admin/rates", json=rates)).status_code == 200
    huge = {"amount": "999999999", "currency": "KWD"}
    first, *others = await asyncio.gather(
        holding.capture(holds[0], cost=huge), *(holding.capture(hold, cost=chf("0.1")) for hold in holds[1:])
    )
    assert (first.status_code, first.json()["code"], first.json()["errors"][0]["field"]) == (
        422,
        "AMOUNT_TOO_LARGE",
        "cost",
    )
    assert [answer.status_code for answer in others] == [200] * 4
    too_much = await holding.ask(None, estimate={"cost": huge})
    assert (too_much.status_code, too_much.json()["code"], too_much.json()["errors"][0]["field"]) == (
        422,
        "AMOUNT_TOO_LARGE",
        "estimate",
    )
    assert await holding.held() == {None: 100_000}
    assert await holding.books.failing() == {}


async def test_a_hold_of_another_mandate_is_not_there(holding: Holding, api: BillingApi) -> None:
    await holding.credit(5)
    hold, other = await holding.hold(), new_mandate()
    await api.directory(other, {"user-1": ["member"]})
    answer = await holding.capture(hold, event=usage_event(other))
    assert (answer.status_code, answer.json()["code"]) == (404, "HOLD_UNKNOWN")
    numbered = UUID(hold)
    for unknown in (
        str(uuid4()),
        str(UUID(int=numbered.int ^ 1)),
        str(UUID(int=numbered.int + (1 << 96))),
        "no-uuid",
        "f" * 32,
    ):
        for answered in (await holding.capture(unknown, cost=chf("1")), await holding.void(unknown)):
            assert (answered.status_code, answered.json()["code"]) == (404, "HOLD_UNKNOWN"), answered.text
    assert (await holding.ask("1", mandateId=new_mandate())).json()["code"] == "MANDATE_UNKNOWN"
    assert await holding.held() == {None: 1_000_000}
    # However the id is written.
    assert (await holding.void(hold.upper())).status_code == 200
