"""GET /api/billing/admin/unpriced: the events that wait for a price or a rate."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from services.billing.credits.payment_events import CreditPayments
from services.chassis.clock import system_clock
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.charging import charge
from tests.support.events import usage_record, uuid7
from tests.support.facts import paid

PATH = "/api/billing/admin/unpriced"
AT = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)


async def test_parked_events_are_listed_with_every_field(api: BillingApi, mandate: str) -> None:
    model, (priceless, rateless) = f"model-{uuid4()}", sorted((uuid7(), uuid7()))
    await charge(
        api.database,
        usage_record(mandate, event_id=priceless, at=AT, cost=None, tokens={"input": 1}, model=model),
        usage_record(mandate, event_id=rateless, at=AT, currency="JPY"),
    )
    common = {"mandateId": mandate, "provider": "anthropic", "occurredAt": "2026-03-01T12:30:15Z"}
    no_price = f"anthropic {model} is not in the price book"
    no_rate = "there is no rate of JPY at 2026-03-01T12:30:15Z"
    assert [item for item in await _listed(api, limit=1000) if item["mandateId"] == mandate] == [
        {
            "eventId": str(priceless),
            **common,
            "model": model,
            "currency": None,
            "reason": "NO_PRICE",
            "missing": no_price,
        },
        {
            "eventId": str(rateless),
            **common,
            "model": "claude-sonnet-4-5",
            "currency": "JPY",
            "reason": "NO_RATE",
            "missing": no_rate,
        },
    ]


async def test_the_cursor_leads_through_every_parked_event_once(api: BillingApi, mandate: str) -> None:
    ids = {uuid7() for _ in range(25)}
    await charge(api.database, *(usage_record(mandate, event_id=event_id, currency="JPY") for event_id in ids))
    found = [item["eventId"] for item in await _listed(api, limit=10)]
    assert len(set(found)) == len(found)
    assert {UUID(event_id) for event_id in found} >= ids


async def test_usage_and_a_payment_of_one_id_are_both_listed(api: BillingApi, mandate: str) -> None:
    event_id = uuid7()
    await charge(api.database, usage_record(mandate, event_id=event_id, currency="JPY"))
    await CreditPayments(api.database, clock=system_clock)([paid(mandate, event_id=event_id, currency="JPY")], [])
    found = [item for item in await _listed(api, limit=1) if item["mandateId"] == mandate]
    assert [(item["eventId"], item["provider"]) for item in found] == [
        (str(event_id), "anthropic"),
        (str(event_id), None),
    ]


async def test_a_cursor_that_no_answer_gave_is_400(api: BillingApi) -> None:
    for cursor in ("", "1", "1.x", "x.00000000-0000-0000-0000-000000000000"):
        answer = await api.call(system_admin(), "GET", PATH, params={"cursor": cursor})
        assert answer.status_code == 400, answer.text


async def _listed(api: BillingApi, *, limit: int) -> list[dict[str, Any]]:
    """All pages of the list."""
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        answer = await api.call(system_admin(), "GET", PATH, params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert page.keys() == {"items", "nextCursor"}
        assert 0 <= len(page["items"]) <= limit
        found += page["items"]
        if page["nextCursor"] is None:
            return found
        assert len(page["items"]) == limit
        query["cursor"] = page["nextCursor"]
