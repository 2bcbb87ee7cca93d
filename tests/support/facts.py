"""Events of other services as billing receives them: encoded and decoded, each with an offset of its own in its
topic."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from rappen_contracts import encode
from rappen_contracts.payment.v1 import PaymentFailed, PaymentRefunded, PaymentSucceeded
from rappen_contracts.registry import (
    PAYMENT_FAILED_V1,
    PAYMENT_REFUNDED_V1,
    PAYMENT_SUCCEEDED_V1,
    SUBSCRIPTION_CHANGED_V1,
    EventVersion,
)
from rappen_contracts.subscription.v1 import Plan, SubscriptionChanged
from rappen_contracts.types import Contract, NonNegativeMoney
from services.chassis.consumer import Received
from tests.support.records import received_record

__all__ = ["AT", "declined", "money", "paid", "received_fact", "refunded", "subscription"]

AT = datetime(2026, 5, 1, tzinfo=UTC)


def received_fact(
    version: EventVersion, data: Contract, *, event_id: UUID | None = None, at: datetime = AT, key: str = ""
) -> Received:
    """An event as its consumer hands it on."""
    record = encode(data, type=version.type, id=event_id or uuid4(), source="/tests", time=at, key=key)
    return received_record(version.name, record)


def money(amount: int | str, currency: str = "CHF") -> NonNegativeMoney:
    """An amount."""
    return NonNegativeMoney(amount=Decimal(amount), currency=currency)


def paid(mandate: str, amount: int = 500, *, event_id: UUID | None = None, **more: Any) -> Received:
    """A top-up that succeeded."""
    data = PaymentSucceeded(
        **{
            "mandate_id": mandate,
            "amount": money(amount, more.pop("currency", "CHF")),
            "reason": "top_up",
            "reference": f"cs_{uuid4().hex}",
            "paid_at": AT,
            "cause": "tests",
            **more,
        }
    )
    return received_fact(PAYMENT_SUCCEEDED_V1, data, event_id=event_id, key=mandate)


def declined(mandate: str, recharge_id: UUID, *, event_id: UUID | None = None, **more: Any) -> Received:
    """A recharge whose payment was declined."""
    data = PaymentFailed(
        **{
            "mandate_id": mandate,
            "amount": money(10),
            "reason": "recharge",
            "outcome": "declined",
            "reference": f"pi_{uuid4().hex}",
            "recharge_id": recharge_id,
            "decline_code": "insufficient_funds",
            "failed_at": AT,
            "cause": "tests",
            **more,
        }
    )
    return received_fact(PAYMENT_FAILED_V1, data, event_id=event_id, key=mandate)


def refunded(mandate: str, amount: int | str = 500, *, event_id: UUID | None = None, **more: Any) -> Received:
    """A refund of a top-up."""
    data = PaymentRefunded(
        **{
            "mandate_id": mandate,
            "amount": money(amount, more.pop("currency", "CHF")),
            "reason": "top_up",
            "outcome": "refund",
            "reference": f"cs_{uuid4().hex}",
            "refund_id": f"re_{uuid4().hex}",
            "paid_at": AT,
            "refunded_at": AT,
            "cause": "tests",
            **more,
        }
    )
    return received_fact(PAYMENT_REFUNDED_V1, data, event_id=event_id, key=mandate)


def subscription(
    mandate: str, subscription_id: UUID, version: int, state: str, *, at: datetime = AT, **more: Any
) -> Received:
    """A subscription's change; operative as its state says, on a plan with a budget of 20."""
    data = SubscriptionChanged(
        **{
            "mandate_id": mandate,
            "subscription_id": subscription_id,
            "version": version,
            "to_state": state,
            "operative": state in ("TRIALING", "ACTIVE", "CANCELED", "PAST_DUE"),
            "plan": more.pop("plan", None)
            or Plan(
                key=more.pop("plan_key", "STARTER"), budget=money(20), markup_percent=more.pop("markup_percent", None)
            ),
            "period_start": AT,
            "cause": "tests",
            **more,
        }
    )
    return received_fact(SUBSCRIPTION_CHANGED_V1, data, at=at, key=mandate)
