"""Refunds and disputes at Stripe."""

from collections.abc import Mapping
from typing import Any

from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway, from_minor
from services.payments.stripe.json_values import id_of, time_of
from services.payments.stripe.objects import MoneyBack

__all__ = ["find_money_back", "intent_of_charge", "intent_of_dispute", "intent_of_refund", "list_refunds", "money_back"]


async def intent_of_charge(stripe: StripeGateway, charge_id: str) -> str | None:
    """The payment that a charge is of."""
    return await _intent(stripe, lambda v1: v1.charges.retrieve_async(charge_id))


async def intent_of_refund(stripe: StripeGateway, refund_id: str) -> str | None:
    """The payment that a refund is of."""
    return await _intent(stripe, lambda v1: v1.refunds.retrieve_async(refund_id))


async def intent_of_dispute(stripe: StripeGateway, dispute_id: str) -> str | None:
    """The payment that a dispute is about."""
    return await _intent(stripe, lambda v1: v1.disputes.retrieve_async(dispute_id))


async def _intent(stripe: StripeGateway, call: Any) -> str | None:
    try:
        found = await stripe.ask(call)
        if id_of(found.get("payment_intent")) is None and (charge := id_of(found.get("charge"))) is not None:
            found = await stripe.ask(lambda v1: v1.charges.retrieve_async(charge))
    except StripeObjectUnknown:
        return None
    return id_of(found.get("payment_intent"))


async def money_back(stripe: StripeGateway, intent_id: str) -> list[MoneyBack]:
    """Every refund and dispute of a payment, oldest first."""
    params = {"payment_intent": intent_id, "limit": 100}
    refunds = await stripe.ask_list(lambda v1: v1.refunds.list_async(params))
    disputes = await stripe.ask_list(lambda v1: v1.disputes.list_async(params))
    found = [*(_money_back(each, "REFUND") for each in refunds), *(_money_back(each, "DISPUTE") for each in disputes)]
    return sorted(found, key=lambda each: (each.created_at, each.id))


async def find_money_back(stripe: StripeGateway, refund_id: str) -> MoneyBack:
    """The refund or dispute of that id; raises StripeObjectUnknown."""
    if refund_id.startswith(("re_", "pyr_")):
        return _money_back(await stripe.ask(lambda v1: v1.refunds.retrieve_async(refund_id)), "REFUND")
    return _money_back(await stripe.ask(lambda v1: v1.disputes.retrieve_async(refund_id)), "DISPUTE")


async def list_refunds(stripe: StripeGateway, *, created: Mapping[str, int]) -> list[MoneyBack]:
    """Every refund and dispute that was made in a time (`gte`, `lt`, in seconds since 1970)."""
    params = {"created": created, "limit": 100}
    refunds = await stripe.ask_list(lambda v1: v1.refunds.list_async(params))
    disputes = await stripe.ask_list(lambda v1: v1.disputes.list_async(params))
    return [*(_money_back(each, "REFUND") for each in refunds), *(_money_back(each, "DISPUTE") for each in disputes)]


def _money_back(found: Mapping[str, Any], kind: str) -> MoneyBack:
    currency = str(found["currency"]).upper()
    created_at = time_of(found.get("created"))
    if created_at is None:
        raise TypeError("an object of Stripe's has no time")
    return MoneyBack(
        id=found["id"],
        kind=kind,
        status=found.get("status") or "",
        amount=from_minor(found["amount"], currency),
        currency=currency,
        intent_id=id_of(found.get("payment_intent")),
        created_at=created_at,
    )
