"""A charge begins again when what it was priced by changed before it had the mandate's lock, and for nothing else."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from services.billing.charging.charge_usage import Charges, TermsChanged
from services.billing.credits.apply_subscription import ApplySubscription
from services.chassis.clock import system_clock
from services.chassis.database import begin
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.charging import charge, received
from tests.support.events import usage_record
from tests.support.facts import subscription
from tests.support.ledger import Books

Change = Callable[[BillingApi, str], Awaitable[None]]


def _call(method: str, path: str, body: dict[str, Any]) -> Change:
    async def change(api: BillingApi, mandate: str) -> None:
        answer = await api.call(system_admin(), method, path.format(mandate), json=body)
        assert answer.status_code == 200, answer.text

    return change


def _settings(**given: Any) -> Change:
    return _call("POST", "/api/billing/admin/settings/{}", given)


def _told_subscription(**more: Any) -> Change:
    async def change(api: BillingApi, mandate: str) -> None:
        await ApplySubscription(api.database, clock=system_clock)(
            [subscription(mandate, uuid4(), 1, "ACTIVE", **more)], []
        )

    return change


async def _free_usage(api: BillingApi, mandate: str) -> None:
    """The first usage that is claimed without a charge: from now on charges have to look among those."""
    await charge(api.database, usage_record(mandate, amount="0"))


PRICING: dict[str, Change] = {
    "markup": _settings(markupPercent=7),
    "time zone": _settings(timeZone="Asia/Tokyo"),
    "late events": _settings(lateEvents="next", lateEventDays=3),
    "terms": _call("PUT", "/api/billing/admin/terms/{}", {"markupPercent": 7, "creditLimit": None}),
    "model": _call("POST", "/api/billing/admin/model/{}", {"billingModel": "UNLIMITED"}),
    "markup of the plan": _told_subscription(markup_percent=Decimal(8)),
    "free usage": _free_usage,
}
OTHER: dict[str, Change] = {
    "mails": _settings(notifyEmails=["billing@example.org"], notifyOnWarning=False),
    "address": _settings(billingAddress={"company": "Acme AG", "street": "Weg 1", "zip": "8000", "city": "Zürich"}),
    "recharges": _settings(autoRechargeEnabled=True, rechargeAmountCHF=20),
    "subscription without a markup": _told_subscription(),
}


async def _charge_with(api: BillingApi, mandate: str, change: Change) -> None:
    """Charges a usage event; the change is made after the event's terms were read and before the mandate is locked."""
    (record,) = received([usage_record(mandate, "user-1", amount="1")])
    charges, usages, now = Charges(Decimal(50)), [record], system_clock()
    async with api.database.reading() as connection:
        await charges.assign_charge_keys(connection, usages, now)
        async with begin(connection):
            basis = await charges.pricing_context(connection, usages)
            await change(api, mandate)
            await charges.charge(connection, usages, basis, now)


@pytest.mark.parametrize("what", PRICING)
async def test_a_charge_that_was_priced_by_other_terms_begins_again(
    api: BillingApi, books: Books, mandate: str, what: str
) -> None:
    with pytest.raises(TermsChanged):
        await _charge_with(api, mandate, PRICING[what])
    assert await books.charged([mandate]) == 0
    assert await books.failing() == {}


@pytest.mark.parametrize("what", OTHER)
async def test_settings_that_price_nothing_disturb_no_charge(
    api: BillingApi, books: Books, mandate: str, what: str
) -> None:
    await _charge_with(api, mandate, OTHER[what])
    assert await books.charged([mandate]) == 1
    assert await books.failing() == {}
