"""The runway of a mandate over its real books: balances and grants, members, features, roles, and what is unusual."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from rappen_contracts.types import NonNegativeMoney
from services.billing.credits.promotions import Offer, give_promotion
from services.billing.ledger.domain import BillingModel
from services.billing.reports.scope import Scope
from services.billing.statistics.show_runway import show_runway
from services.chassis.caller import Caller
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, checker, member_of, system_admin
from tests.support.events import usage_record
from tests.support.used import made, use

# A Friday, at noon in Zurich.
NOW = datetime(2026, 11, 20, 11, tzinfo=UTC)


async def spend_daily(
    database: Database, mandate: str, amount: str, user: str = "user-1", *, days: int = 62, **data: Any
) -> None:
    """The same usage on each of the days before today."""
    records = [
        usage_record(mandate, user, amount=amount, at=NOW - timedelta(days=number), **data)
        for number in range(1, days + 1)
    ]
    await use(database, records, now=NOW)


async def outlook(database: Database, mandate: str, caller: Caller, language: str = "en") -> dict[str, Any]:
    scope = Scope.of(caller, mandate_id=mandate)
    return await show_runway(database, scope, mandate, language=language, clock=lambda: NOW)


def chf(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "CHF"}


async def credit(api: BillingApi, mandate: str, amount: float, user: str | None = None) -> None:
    body: dict[str, Any] = {"amount": amount} | ({} if user is None else {"userId": user})
    answer = await api.call(system_admin(), "POST", f"/api/billing/admin/credit/{mandate}", json=body)
    assert answer.status_code == 200, answer.text


async def test_a_pool_ends_on_the_day_on_which_nothing_is_left(api: BillingApi) -> None:
    mandate = await made(api.database, label="Acme AG")
    await credit(api, mandate, 326)
    await spend_daily(api.database, mandate, "3", feature_code="chat", feature_instance_id="chat-1")
    await spend_daily(api.database, mandate, "2", "user-2", feature_code="search", feature_instance_id="search-1")
    # 326 less 62 times five: today, and three days after it.
    answer = await outlook(api.database, mandate, admin_of(mandate))
    spent = {"balance": None, "endsOn": None, "unusual": []}
    assert answer == {
        "mandateId": mandate,
        "mandateName": "Acme AG",
        "asOf": NOW,
        "mandate": {
            "balance": chf("16.000000"),
            "burnPerDay": chf("5.000000"),
            "endsOn": "2026-11-23",
            "text": "At this rate the balance ends on Monday.",
            "unusual": [],
        },
        "members": [
            {**spent, "userId": user, "userName": user, "burnPerDay": chf(f"{rate}.000000"), "text": text}
            for user, rate, text in (
                ("user-1", 3, "Spent in a day: CHF 3.00."),
                ("user-2", 2, "Spent in a day: CHF 2.00."),
            )
        ],
        "features": [
            {**spent, "featureCode": code, "burnPerDay": chf(f"{rate}.000000"), "text": text}
            for code, rate, text in (
                ("chat", 3, "Spent in a day: CHF 3.00."),
                ("search", 2, "Spent in a day: CHF 2.00."),
            )
        ],
    }
    german = await outlook(api.database, mandate, system_admin(), "de")
    assert german["mandate"]["text"] == "Bei diesem Verbrauch endet das Guthaben am Montag."
    # A member sees what they have spent, an administrator of an instance what was spent in it, and neither the pool.
    member = await outlook(api.database, mandate, member_of(mandate))
    assert (member["mandate"], [each["userId"] for each in member["members"]]) == (None, ["user-1"])
    assert [(each["featureCode"], each["burnPerDay"]) for each in member["features"]] == [("chat", chf("3.000000"))]
    of_search = Caller(user_id="outsider", instances=frozenset({"search-1"}), instance_mandates=frozenset({mandate}))
    instance = await outlook(api.database, mandate, of_search)
    assert (instance["mandate"], instance["members"]) == (None, [])
    assert [(each["featureCode"], each["burnPerDay"]) for each in instance["features"]] == [("search", chf("2.000000"))]


async def test_budgets_of_members_end_each_by_itself(api: BillingApi) -> None:
    mandate = await made(api.database)
    await api.switch(mandate, "PREPAY_USER")
    # Beside the ten of the opening credit.
    await credit(api, mandate, 120, "user-1")
    await credit(api, mandate, 114, "user-2")
    await spend_daily(api.database, mandate, "2")
    await spend_daily(api.database, mandate, "2", "user-2")
    answer = await outlook(api.database, mandate, admin_of(mandate))
    shown = {each["userId"]: (each["balance"]["amount"], each["endsOn"]) for each in answer["members"]}
    assert shown == {"user-1": ("6.000000", "2026-11-22"), "user-2": ("0.000000", "2026-11-20")}
    assert answer["members"][1]["text"] == "The balance is used up."
    # The administrator has ten that nobody spends.
    assert answer["mandate"]["balance"] == chf("16.000000")
    (own,) = (await outlook(api.database, mandate, member_of(mandate)))["members"]
    assert (own["balance"], own["endsOn"]) == (chf("6.000000"), "2026-11-22")


@pytest.mark.parametrize(
    ("model", "limit", "shown"),
    [
        (
            "CREDIT_POSTPAY",
            134,
            ("-124.000000", "2026-11-24", "At this rate the credit limit is reached on Tuesday."),
        ),
        ("CREDIT_POSTPAY", None, ("-124.000000", None, "Spent in a day: CHF 2.00.")),
        ("CREDIT_POSTPAY", 124, ("-124.000000", "2026-11-20", "The credit limit is reached.")),
        ("UNLIMITED", None, (None, None, "Spent in a day: CHF 2.00.")),
    ],
)
async def test_on_credit_it_is_the_limit_that_ends_and_without_one_nothing(
    api: BillingApi, model: BillingModel, limit: int | None, shown: tuple[str | None, ...]
) -> None:
    mandate = await made(api.database)
    address = {"company": "Acme", "street": "Weg 1", "zip": "8000", "city": "Zurich"}
    settings = await api.call(
        system_admin(), "POST", f"/api/billing/admin/settings/{mandate}", json={"billingAddress": address}
    )
    assert settings.status_code == 200, settings.text
    await api.switch(mandate, model)
    if limit is not None:
        terms = {"markupPercent": 0, "creditLimit": {"amount": str(limit), "currency": "CHF"}}
        answer = await api.call(system_admin(), "PUT", f"/api/billing/admin/terms/{mandate}", json=terms)
        assert answer.status_code == 200, answer.text
    await spend_daily(api.database, mandate, "2")
    told = (await outlook(api.database, mandate, admin_of(mandate)))["mandate"]
    assert (told["balance"] and told["balance"]["amount"], told["endsOn"], told["text"]) == shown


@pytest.mark.parametrize(
    ("expires_at", "ends"),
    [
        # Four of paid credit and fifty given: 27 days, today among them.
        (datetime(2027, 11, 20, tzinfo=UTC), "2026-12-16"),
        # At midnight after tomorrow: two days of it, and two of the paid.
        (datetime(2026, 11, 21, 23, tzinfo=UTC), "2026-11-23"),
    ],
)
async def test_a_promotion_that_expires_is_gone_then(api: BillingApi, expires_at: datetime, ends: str) -> None:
    mandate = await made(api.database)
    await credit(api, mandate, 128)
    await spend_daily(api.database, mandate, "2")
    fifty = NonNegativeMoney(amount=Decimal(50), currency="CHF")
    offer = Offer(mandate, fifty, expires_at, "welcome", code=None, key=None, body="")
    await give_promotion(api.database, offer, amount_max=Decimal(1000), caller=system_admin(), clock=lambda: NOW)
    shown = (await outlook(api.database, mandate, admin_of(mandate)))["mandate"]
    assert (shown["balance"], shown["endsOn"]) == (chf("54.000000"), ends)


async def test_unusual_days_are_named_with_the_reason(api: BillingApi) -> None:
    mandate = await made(api.database)
    await credit(api, mandate, 1000)
    await spend_daily(api.database, mandate, "5", feature_code="chat")
    spike = usage_record(mandate, "user-2", amount="80", at=NOW - timedelta(days=1), feature_code="agent")
    await use(api.database, [spike], now=NOW)
    answer = await outlook(api.database, mandate, admin_of(mandate))
    assert answer["mandate"]["unusual"] == [
        {
            "date": "2026-11-19",
            "cost": chf("85.000000"),
            "usual": chf("5.000000"),
            "deviations": "64.0",
            "text": "CHF 85.00 were spent on Thursday, 19 November 2026; on a Thursday CHF 5.00 is usual.",
        }
    ]
    # The rate is as before; of the new member and feature nobody knows what is usual yet.
    assert answer["mandate"]["burnPerDay"] == chf("5.000000")
    assert [each["unusual"] for each in (*answer["members"], *answer["features"])] == [[]] * 4


async def test_of_a_mandate_without_usage_nothing_is_told(api: BillingApi) -> None:
    mandate = await made(api.database)
    await credit(api, mandate, 5)
    answer = await api.call(admin_of(mandate), "GET", f"/api/billing/view/runway?mandateId={mandate}")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["mandate"] == {
        "balance": chf("5.000000"),
        "burnPerDay": None,
        "endsOn": None,
        "text": "There is too little usage yet to tell a rate.",
        "unusual": [],
    }
    assert (told["members"], told["features"]) == ([], [])


async def test_who_may_not_see_anything_of_it_is_refused(api: BillingApi, mandate: str) -> None:
    path = "/api/billing/view/runway?mandateId="
    stranger = member_of("another")
    for named in (mandate, "nobody-knows-it"):
        refused = await api.call(stranger, "GET", f"{path}{named}")
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    assert (await api.call(system_admin(), "GET", f"{path}nobody-knows-it")).status_code == 404
    assert (await api.call(checker(), "GET", f"{path}{mandate}")).status_code == 403
    assert (await api.call(None, "GET", f"{path}{mandate}")).status_code == 401
    malformed = await api.call(admin_of(mandate), "GET", f"{path}a%20b")
    assert (malformed.status_code, malformed.json()["code"]) == (400, "MALFORMED_PARAMETER")
    missing = await api.call(admin_of(mandate), "GET", "/api/billing/view/runway")
    assert (missing.status_code, missing.json()["errors"][0]["field"]) == (422, "mandateId")
