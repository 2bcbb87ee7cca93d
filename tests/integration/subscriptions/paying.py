"""Plans that are paid, with payments in its place."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx

from rappen_contracts.stripe.v1 import StripeRequested
from services.chassis.caller import Caller
from services.subscriptions.lifecycle.periods import period_of_plan
from tests.integration.subscriptions.harness import BEGINNING, Service, new_admin_of, new_member_of
from tests.support.events import new_mandate
from tests.support.stripe_facts import SubscriptionAtStripe
from tests.support.waiting import eventually

__all__ = ["DAY", "MONTH", "checkout", "shows", "subscribed"]

DAY = timedelta(days=1)
MONTH = period_of_plan(BEGINNING, "month", anchor=BEGINNING)


async def checkout(
    service: Service, mandate_id: str, plan_key: str, caller: Caller, **more: Any
) -> tuple[httpx.Response, StripeRequested]:
    """Starts a plan that is paid, with payments in its place; gives the answer, and what payments was asked."""
    asked = len(service.payments.requests.of(mandate_id))
    starting = asyncio.create_task(service.start(mandate_id, plan_key, caller, **more))
    requested: StripeRequested = await service.payments.requests.next(mandate_id, asked + 1)
    await service.payments.settle(requested)
    return await starting, requested


async def shows(service: Service, mandate_id: str, **expected: object) -> dict[str, Any]:
    """The mandate's subscription, once it shows these values."""
    shown: dict[str, Any] = {}

    async def there() -> bool:
        shown.update((await service.get(mandate_id, new_member_of(mandate_id))).json())
        return expected.items() <= shown.items()

    await eventually(there, what=str(expected))
    return shown


async def subscribed(service: Service, plan_key: str = "TEAM") -> tuple[str, Caller, SubscriptionAtStripe]:
    """A mandate whose plan was paid just now."""
    mandate_id = new_mandate()
    admin = new_admin_of(mandate_id)
    _, requested = await checkout(service, mandate_id, plan_key, admin)
    stripe = SubscriptionAtStripe(
        record=requested.subscription_id, mandate_id=mandate_id, plan_key=plan_key, period=MONTH, at=BEGINNING
    )
    await service.payments.observe(stripe.begins())
    await shows(service, mandate_id, status="ACTIVE")
    return mandate_id, admin, stripe
