"""What holds and captures refuse: every field that is wrong is named, and who may not is told so."""

from typing import Any
from uuid import uuid4

import pytest

from services.chassis.caller import Caller
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import checker, member_of, system_admin
from tests.support.holding import Holding, chf, publisher, usage_event
from tests.support.ledger import Books


@pytest.fixture
def holding(api: BillingApi, books: Books, mandate: str) -> Holding:
    return Holding(api, books, mandate)


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"ttlSeconds": 0}, "ttlSeconds", "VALIDATION"),
        ({"ttlSeconds": 3601}, "ttlSeconds", "VALIDATION"),
        ({"ttlSeconds": "60"}, "ttlSeconds", "VALIDATION"),
        ({"ttlSeconds": 1.5}, "ttlSeconds", "VALIDATION"),
        ({"ttlSeconds": True}, "ttlSeconds", "VALIDATION"),
        ({"ttlSeconds": None}, "ttlSeconds", "VALIDATION"),
        ({"idempotencyKey": ""}, "idempotencyKey", "VALIDATION"),
        ({"idempotencyKey": "a b"}, "idempotencyKey", "VALIDATION"),
        ({"idempotencyKey": "k" * 256}, "idempotencyKey", "VALIDATION"),
        ({"idempotencyKey": 7}, "idempotencyKey", "VALIDATION"),
        ({"mandateId": ""}, "mandateId", "VALIDATION"),
        ({"userId": "x" * 65}, "userId", "VALIDATION"),
        ({"estimatedCost": {"amount": 1, "currency": "CHF"}}, "estimatedCost.amount", "VALIDATION"),
        ({"estimatedCost": {"amount": "1", "currency": "USD"}}, "body", "VALIDATION"),
        ({"estimatedCost": chf("0.0000001")}, "estimatedCost", "VALIDATION"),
        ({"estimate": {"cost": chf("1")}}, "body", "VALIDATION"),
        ({"estimatedCost": None}, "body", "VALIDATION"),
        ({"estimatedCost": None, "estimate": {"cost": chf("-1")}}, "estimate.cost.amount", "NEGATIVE"),
        ({"provider": ""}, "provider", "VALIDATION"),
        ({"model": "m" * 121}, "model", "VALIDATION"),
        ({"featureInstanceId": "no id"}, "featureInstanceId", "VALIDATION"),
    ],
)
async def test_what_cannot_be_held_names_its_field(
    holding: Holding, body: dict[str, Any], field: str, code: str
) -> None:
    given = {"mandateId": holding.mandate, "userId": "user-1", "estimatedCost": chf("1"), **body}
    answer = await holding.api.call(publisher(), "POST", "/api/billing/holds", json=given)
    document = answer.json()
    assert (answer.status_code, document["code"]) == (422, code), answer.text
    assert [fault["field"] for fault in document["errors"]] == [field]
    german = await holding.api.call(
        publisher(), "POST", "/api/billing/holds", json=given, headers={"Accept-Language": "de"}
    )
    assert german.json()["errors"][0]["message"] != document["errors"][0]["message"]


EVENT = {
    "specversion": "1.0",
    "source": "/tests",
    "type": "ch.rappen.usage.recorded.v1",
    "time": "2026-01-01T00:00:00Z",
}
USED = {"mandate_id": "m", "user_id": "u", "provider": "p", "model": "m", "cost": chf("1")}
GOOD = {**EVENT, "id": str(uuid4()), "data": USED}


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "body", "VALIDATION"),
        ({"cost": chf("1"), "event": GOOD}, "body", "VALIDATION"),
        ({"cost": {"amount": 1, "currency": "CHF"}}, "cost.amount", "NOT_A_STRING"),
        ({"cost": chf("-1")}, "cost.amount", "NEGATIVE"),
        ({"cost": chf("1e9")}, "cost.amount", "TOO_LARGE"),
        ({"cost": {"amount": "1", "currency": "XXX"}}, "cost.currency", "UNKNOWN_CURRENCY"),
        ({"cost": "1"}, "cost", "VALIDATION"),
        ({"event": "text"}, "event", "NOT_AN_OBJECT"),
        ({"event": EVENT}, "event", "MISSING_ATTRIBUTE"),
        ({"event": GOOD | {"id": "x"}}, "event.id", "BAD_UUID"),
        ({"event": GOOD | {"time": "2026-01-01"}}, "event.time", "BAD_TIME"),
        ({"event": GOOD | {"time": "2190-01-01T00:00:00Z"}}, "event.time", "TIME_IN_FUTURE"),
        ({"event": GOOD | {"type": "ch.rappen.payment.succeeded.v1"}}, "event.type", "UNKNOWN_TYPE"),
        ({"event": GOOD | {"data": USED | {"cost": chf("-1")}}}, "event.data.cost.amount", "NEGATIVE"),
        ({"event": GOOD | {"data": USED | {"tokens": {"prompt": 1}}}}, "event.data.tokens.*", "UNKNOWN_TOKEN_KIND"),
        ({"event": GOOD | {"data": {**USED, "hold_id": "x"}}}, "event.data.hold_id", "BAD_UUID"),
    ],
)
async def test_what_cannot_be_captured_names_its_field(
    holding: Holding, body: dict[str, Any], field: str, code: str
) -> None:
    await holding.credit(5)
    answer = await holding.capture(await holding.hold(), **body)
    document = answer.json()
    assert (answer.status_code, document["code"]) == (422, code), answer.text
    assert [fault["field"] for fault in document["errors"]] == [field]


async def test_an_event_that_names_another_hold_is_refused(holding: Holding) -> None:
    await holding.credit(5)
    hold, other = await holding.hold(), await holding.hold()
    answer = await holding.capture(hold, event=usage_event(holding.mandate, hold_id=other))
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "event.data.hold_id")
    assert (await holding.capture(hold, event=usage_event(holding.mandate, hold_id=hold))).status_code == 200
    assert await holding.held() == {None: 1_000_000}


@pytest.mark.parametrize("caller", [system_admin(), member_of("m"), checker({"other": True})])
async def test_only_a_program_with_the_scope_may(holding: Holding, caller: Caller) -> None:
    await holding.credit(5)
    hold = await holding.hold()
    body = {"mandateId": holding.mandate, "userId": "user-1", "estimatedCost": chf("1")}
    call, path = holding.api.call, f"/api/billing/holds/{hold}"
    assert (await call(caller, "POST", "/api/billing/holds", json=body)).status_code == 403
    assert (await call(caller, "POST", f"{path}/capture", json={"cost": chf("1")})).status_code == 403
    assert (await call(caller, "POST", f"{path}/void")).status_code == 403
    # Capturing writes usage; the other two do not.
    may_check, may_write = checker(), checker({"usage:write": True})
    assert (await call(may_check, "POST", f"{path}/capture", json={"cost": chf("1")})).status_code == 403
    assert (await call(may_write, "POST", f"{path}/void")).status_code == 403
    assert (await call(may_check, "POST", f"{path}/void")).status_code == 200


@pytest.mark.parametrize("path", ["/api/billing/check", "/api/billing/holds"])
@pytest.mark.parametrize("name", ["ttlSecond", "ttl_seconds", "MandateId", "featureInstanceID", "mandate_id", ""])
async def test_a_name_that_a_check_or_hold_does_not_know_is_refused(holding: Holding, path: str, name: str) -> None:
    await holding.credit(5)
    given = {"mandateId": holding.mandate, "userId": "user-1", "estimatedCost": chf("1")}
    body = {**given, name: 1}
    answer = await holding.api.call(publisher(), "POST", path, json=body)
    document = answer.json()
    assert (answer.status_code, document["code"]) == (422, "VALIDATION"), answer.text
    assert document["errors"] == [{"field": name or "body", "message": "there is no such field"}]
    # What is within an event, or a part of one, is read as the contract says.
    del given["estimatedCost"]
    estimate = {"cost": {**chf("1"), "x": 1}, "unheard_of": 1}
    answer = await holding.api.call(publisher(), "POST", path, json={**given, "estimate": estimate})
    assert answer.status_code in (200, 201), answer.text


async def test_a_name_that_a_capture_does_not_know_is_refused(holding: Holding) -> None:
    await holding.credit(5)
    hold = await holding.hold()
    refused = await holding.capture(hold, cost=chf("0.1"), hold_id=hold)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "hold_id")
    assert (await holding.state(hold))[0] == "OPEN"
    event = usage_event(holding.mandate, hold_id=hold, unheard_of=1)
    assert (await holding.capture(hold, event=event)).status_code == 200
