"""What a session of Stripe's means: paid or not, how much, and the state that nothing takes back."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations

import pytest
from pydantic import TypeAdapter

from rappen_contracts.types import NonNegativeMoney, Timestamp
from services.payments.checkouts.domain import (
    CheckoutState,
    ReceivedPayment,
    advanced,
    observed_state,
    received_payment,
    session_id_is_valid,
)
from services.payments.stripe import gateway
from services.payments.stripe.gateway import from_minor, to_minor
from services.payments.stripe.objects import CheckoutSession, PaymentIntent

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
INTENT = PaymentIntent(id="pi_1", status="succeeded", amount_received=Decimal("25.00"), currency="CHF", paid_at=AT)
PAID = CheckoutSession(
    id="cs_test_1",
    status="complete",
    payment_status="paid",
    amount_total=Decimal("25.00"),
    currency="CHF",
    client_reference_id=None,
    created_at=AT,
    payment_intent=INTENT,
)


def test_the_amount_is_what_the_payment_received_not_what_the_session_asked() -> None:
    received = received_payment(replace(PAID, payment_intent=replace(INTENT, amount_received=Decimal("20.00"))))
    assert received is not None
    assert (received.amount, received.currency, received.intent_id) == (Decimal("20.00"), "CHF", "pi_1")


@pytest.mark.parametrize(
    ("units", "currency", "amount"),
    [(2500, "CHF", "25"), (2500, "JPY", "2500"), (2500, "KRW", "2500"), (2500, "KWD", "2.5"), (1, "USD", "0.01")],
)
def test_minor_units_are_those_of_the_currency(units: int, currency: str, amount: str) -> None:
    assert from_minor(units, currency) == Decimal(amount)
    assert to_minor(Decimal(amount), currency) == units


def test_amounts_of_stripes_objects_are_exact_and_their_currencies_in_capitals() -> None:
    created = {"created": int(AT.timestamp())}
    intent = {"id": "pi_1", "status": "succeeded", "amount_received": 2000, "currency": "jpy", "latest_charge": created}
    session = {"id": "cs_test_1", "mode": "payment", "payment_status": "paid", **created}
    read = gateway._session({**session, "amount_total": 2500, "currency": "chf", "payment_intent": intent})
    assert (read.amount_total, read.currency) == (Decimal(25), "CHF")
    assert read.payment_intent is not None
    assert (read.payment_intent.amount_received, read.payment_intent.currency) == (Decimal(2000), "JPY")
    nothing = gateway._session({**session, "amount_total": None, "currency": None, "payment_intent": None})
    assert received_payment(nothing) == ReceivedPayment(Decimal(0), "", None, AT)


def test_an_amount_between_two_minor_units_is_an_error() -> None:
    with pytest.raises(ValueError, match="minor units"):
        to_minor(Decimal("10.005"), "CHF")


@pytest.mark.parametrize(
    ("session", "state"),
    [
        (PAID, CheckoutState.PAID),
        (replace(PAID, payment_status="no_payment_required", payment_intent=None), CheckoutState.PAID),
        (replace(PAID, status="open", payment_status="unpaid", payment_intent=None), CheckoutState.OPEN),
        (replace(PAID, status="expired", payment_status="unpaid", payment_intent=None), CheckoutState.EXPIRED),
        (
            replace(PAID, payment_status="unpaid", payment_intent=replace(INTENT, status="processing")),
            CheckoutState.WAITING,
        ),
        (
            replace(PAID, payment_status="unpaid", payment_intent=replace(INTENT, status="requires_payment_method")),
            CheckoutState.FAILED,
        ),
        (replace(PAID, payment_status="unpaid", payment_intent=replace(INTENT, status="new")), CheckoutState.WAITING),
        (replace(PAID, payment_intent=replace(INTENT, status="processing")), CheckoutState.WAITING),
        (replace(PAID, status=None, payment_status="later", payment_intent=None), CheckoutState.OPEN),
    ],
)
def test_the_state_is_read_off_the_object(session: CheckoutSession, state: CheckoutState) -> None:
    assert observed_state(session) is state
    assert (received_payment(session) is not None) == (state is CheckoutState.PAID and session.payment_status == "paid")


def test_any_order_of_observations_ends_in_the_same_state() -> None:
    for order in permutations((CheckoutState.OPEN, CheckoutState.WAITING, CheckoutState.EXPIRED, CheckoutState.PAID)):
        state = CheckoutState.OPEN
        for observed in order:
            state = advanced(state, observed)
        assert state is CheckoutState.PAID


@pytest.mark.parametrize(
    "session_id", ["", "cs_", "cs_test_", "cs_test_a/b", "cs_test_a?x", "pi_1", "cs_prod_a", "cs_test_a\n", "cs_test_é"]
)
def test_what_cannot_be_a_session_id_is_seen(session_id: str) -> None:
    assert not session_id_is_valid(session_id)
    assert session_id_is_valid("cs_live_a1B2")


@pytest.mark.parametrize(
    ("amount", "currency", "paid_at", "told"),
    [
        ("25", "CHF", datetime(2026, 5, 4, tzinfo=UTC), True),
        ("999999999.99", "IDR", datetime(2000, 1, 1, tzinfo=UTC), True),
        ("1000000000", "IDR", datetime(2026, 5, 4, tzinfo=UTC), False),
        ("25", "XTS", datetime(2026, 5, 4, tzinfo=UTC), False),
        ("25", "CHF", datetime(1970, 1, 1, tzinfo=UTC), False),
    ],
)
def test_a_payment_is_told_where_an_event_can_carry_it(
    amount: str, currency: str, paid_at: datetime, told: bool
) -> None:
    payment = ReceivedPayment(Decimal(amount), currency, "pi_1", paid_at)
    assert payment.can_be_published is told
    if told:
        money = NonNegativeMoney(amount=payment.amount, currency=payment.currency)
        assert (money.amount, TypeAdapter(Timestamp).validate_python(paid_at)) == (payment.amount, paid_at)
