"""A recharge: an account is filled by charging the stored method of its mandate, without anybody there."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from services.payments.stripe.objects import PaymentIntent

__all__ = ["RECHARGE_TEXT", "Recharge", "RechargeState", "observed_state", "recharge_id_in"]

# What the credit is called in the ledger and at Stripe.
RECHARGE_TEXT: Mapping[str, str] = {"en": "Automatic recharge", "de": "Automatische Aufladung"}


class RechargeState(StrEnum):
    """Where a recharge stands. Whatever came before, money that arrived counts."""

    CHARGING = "CHARGING"
    # The bank takes its time.
    PROCESSING = "PROCESSING"
    ACTION_REQUIRED = "ACTION_REQUIRED"
    DECLINED = "DECLINED"
    SUCCEEDED = "SUCCEEDED"


@dataclass(frozen=True, slots=True)
class Recharge:
    """A row of recharges, less when it was changed."""

    recharge_id: UUID
    mandate_id: str
    user_id: str | None
    amount: Decimal
    currency: str
    state: str
    stripe_payment_intent_id: str | None
    decline_code: str | None
    requested_at: datetime


def observed_state(intent: PaymentIntent) -> RechargeState:
    """What a payment of Stripe's means for its recharge; a status that is new means that it is still under way."""
    if intent.status == "succeeded":
        return RechargeState.SUCCEEDED
    if intent.status == "requires_action" or intent.decline_code == "authentication_required":
        return RechargeState.ACTION_REQUIRED
    if intent.status in ("requires_payment_method", "canceled"):
        return RechargeState.DECLINED
    return RechargeState.PROCESSING


def recharge_id_in(metadata: Mapping[str, str]) -> UUID | None:
    """The id of a recharge, as its payment at Stripe carries it."""
    try:
        return UUID(metadata["rechargeId"])
    except (KeyError, ValueError):
        return None
