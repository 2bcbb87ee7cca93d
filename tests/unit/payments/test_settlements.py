"""What is told of a settled session, in one word."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from services.payments.checkouts.domain import Checkout, CheckoutState, Payment
from services.payments.checkouts.settle_checkout import Settlement

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
CHECKOUT = Checkout(
    id=UUID(int=1),
    purpose="top_up",
    mandate_id="m-1",
    user_id=None,
    created_by_user_id="u-1",
    language="en",
    amount=Decimal(25),
    currency="CHF",
    success_url="https://app.example.ch",
    cancel_url="https://app.example.ch",
    idempotency_key=None,
    request_digest=b"",
    stripe_attempt=1,
    stripe_session_id="cs_test_1",
    redirect_url=None,
    state="OPEN",
    created_at=AT,
    updated_at=AT,
)
PAYMENT = Payment(
    event_id=UUID(int=2),
    reason="top_up",
    mandate_id="m-1",
    user_id=None,
    created_by_user_id="u-1",
    amount=Decimal(25),
    currency="CHF",
    requested_amount=Decimal(25),
    requested_currency="CHF",
    mismatch=False,
    checkout_id=CHECKOUT.id,
    stripe_session_id="cs_test_1",
    stripe_payment_intent_id="pi_1",
    cause="evt_1",
    paid_at=AT,
    recorded_at=AT,
)


@pytest.mark.parametrize(
    ("state", "payment", "credited", "outcome"),
    [
        (CheckoutState.PAID, PAYMENT, True, "CREDITED"),
        (CheckoutState.PAID, PAYMENT, False, "ALREADY_CREDITED"),
        (CheckoutState.PAID, None, False, "NOTHING_PAID"),
        (CheckoutState.OPEN, None, False, "OPEN"),
        (CheckoutState.WAITING, None, False, "WAITING"),
        (CheckoutState.EXPIRED, None, False, "EXPIRED"),
        (CheckoutState.FAILED, None, False, "FAILED"),
    ],
)
def test_the_outcome_is_what_became_of_the_money_else_the_state(
    state: CheckoutState, payment: Payment | None, credited: bool, outcome: str
) -> None:
    assert Settlement(CHECKOUT, state, credited, payment).outcome == outcome
