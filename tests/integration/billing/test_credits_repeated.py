"""A credit that is reported again is the same credit, whoever its money would go to by then."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from rappen_contracts import Event
from rappen_contracts.payment.v1 import PaymentSucceeded
from rappen_contracts.registry import PAYMENT_SUCCEEDED_V1, SUBSCRIPTION_CHANGED_V1
from rappen_contracts.subscription.v1 import SubscriptionChanged
from rappen_contracts.types import NonNegativeMoney
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.payment_events import CreditPayments
from services.chassis.clock import system_clock
from services.chassis.consumer import Received
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.events import new_mandate
from tests.support.ledger import Books

AT = datetime(2026, 5, 1, tzinfo=UTC)
TEN = NonNegativeMoney(amount=Decimal(10), currency="CHF")
MEMBERS = {"user-1": ["member"], "user-2": ["member"], "user-3": ["admin"]}


async def _pay(api: BillingApi, mandate: str) -> Received:
    paid = PaymentSucceeded(
        mandate_id=mandate, amount=TEN, reason="top_up", reference=f"cs_{uuid4().hex}", paid_at=AT, cause="tests"
    )
    return await _tell(api, CreditPayments(api.database, clock=system_clock), PAYMENT_SUCCEEDED_V1.type, paid)


async def _begin(api: BillingApi, mandate: str) -> Received:
    plan = {"key": "STARTER", "budget": {"amount": "10", "currency": "CHF"}, "budget_per": "mandate"}
    changed = SubscriptionChanged.model_validate(
        {
            "mandate_id": mandate,
            "subscription_id": str(uuid4()),
            "version": 1,
            "from_state": None,
            "to_state": "ACTIVE",
            "operative": True,
            "recurring": True,
            "plan": plan,
            "period_start": "2026-05-01T00:00:00Z",
            "period_end": "2150-06-01T00:00:00Z",
            "budget_due": True,
            "cause": "tests",
        }
    )
    return await _tell(api, ApplySubscription(api.database, clock=system_clock), SUBSCRIPTION_CHANGED_V1.type, changed)


async def _tell(api: BillingApi, handler: Any, type_: str, data: Any) -> Received:
    event = Event(uuid4(), type_, "/tests", AT, data, b"0" * 16)
    received = Received(event, None)  # type: ignore[arg-type] - a record is needed only for what is refused.
    await handler([received], [])
    return received


@pytest.mark.parametrize("credit", [_pay, _begin])
async def test_a_shared_credit_is_not_given_again_to_the_pool(
    api: BillingApi, books: Books, credit: Callable[[BillingApi, str], Awaitable[Received]]
) -> None:
    mandate = new_mandate()
    await api.directory(mandate, MEMBERS)
    await _switch(api, mandate, "PREPAY_USER")
    opening = await books.money(mandate)
    received = await credit(api, mandate)
    assert await books.money(mandate) == opening + 10_000_000
    await _switch(api, mandate, "PREPAY_MANDATE")
    await _again(api, received)
    assert await books.money(mandate) == opening + 10_000_000
    assert await books.failing() == {}


@pytest.mark.parametrize("credit", [_pay, _begin])
async def test_a_shared_credit_is_not_given_again_when_members_have_gone_or_come(
    api: BillingApi, books: Books, credit: Callable[[BillingApi, str], Awaitable[Received]]
) -> None:
    mandate = new_mandate()
    await api.directory(mandate, MEMBERS)
    await _switch(api, mandate, "PREPAY_USER")
    received = await credit(api, mandate)
    for members, disabled in (({"user-1": ["member"]}, ("user-2", "user-3")), ({**MEMBERS, "user-0": ["member"]}, ())):
        await api.directory(mandate, members, disabled=disabled)
        before = await books.money(mandate)
        await _again(api, received)
        assert await books.money(mandate) == before
    assert await books.failing() == {}


async def _again(api: BillingApi, received: Received) -> None:
    """The same event once more, and what it tells once more by an event of its own."""
    paid = isinstance(received.event.data, PaymentSucceeded)
    handler: Any = CreditPayments if paid else ApplySubscription
    await handler(api.database, clock=system_clock)([received], [])
    again = Received(received.event._replace(id=uuid4()), received.record)
    await handler(api.database, clock=system_clock)([again], [])


async def _switch(api: BillingApi, mandate: str, model: str) -> None:
    answer = await api.call(system_admin(), "POST", f"/api/billing/admin/model/{mandate}", json={"billingModel": model})
    assert answer.status_code == 200, answer.text
