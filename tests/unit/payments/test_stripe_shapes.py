"""Stripe's objects in whichever shape they come: of older versions of its API, with less than expected, with more."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from rappen_contracts.stripe.v1 import Quantities
from services.payments.plans.domain import differs, price_orders
from services.payments.recharges.domain import RechargeState, observed_state
from services.payments.stripe import gateway, prices, subscriptions
from services.payments.stripe.invoices import invoice_of
from services.payments.stripe.objects import PaymentIntent
from services.payments.subscriptions.domain import (
    UnknownAtStripe,
    checkout_form,
    invoice_form,
    quantities_of,
    subscription_form,
    subscription_id_in,
)
from tests.integration.payments.subscribing import plan

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
START, END = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()), int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())


def item(kind: str | None, **more: Any) -> dict[str, Any]:
    metadata = {} if kind is None else {"kind": kind}
    return {"id": f"si_{kind}", "quantity": 2, "price": {"id": "price_1", "metadata": metadata}, **more}


def subscription(**more: Any) -> dict[str, Any]:
    periods = {"current_period_start": START, "current_period_end": END}
    items = {"data": [item("members", **periods), item("feature_instances", **periods)]}
    return {"id": "sub_1", "status": "active", "customer": "cus_1", "metadata": {}, "items": items, **more}


def test_periods_are_those_of_the_items_else_that_of_the_subscription() -> None:
    now = subscriptions._subscription(subscription())
    before = subscriptions._subscription(
        subscription(
            items={"data": [item("members")]},
            current_period_start=START,
            current_period_end=END,
            customer={"id": "cus_1"},
        )
    )
    for found in (now, before):
        assert {(each.period_start, each.period_end) for each in found.items} == {
            (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
        }
        assert found.customer_id == "cus_1"


def test_an_item_that_is_not_ours_or_has_no_period_is_left_out() -> None:
    items = {"data": [item("members"), item(None, current_period_start=START, current_period_end=END), item("new")]}
    found = subscriptions._subscription(subscription(items=items))
    assert subscription_form(found, "TEAM").items == []
    assert quantities_of(found) == Quantities(members=2, feature_instances=0)


@pytest.mark.parametrize(
    ("more", "ends"),
    [
        ({}, False),
        ({"cancel_at_period_end": True}, True),
        ({"cancel_at": END, "cancel_at_period_end": False}, True),
        ({"cancel_at": None, "cancel_at_period_end": False}, False),
    ],
)
def test_it_is_set_to_end_by_either_of_two_ways(more: dict[str, Any], ends: bool) -> None:
    found = subscriptions._subscription(subscription(**more))
    assert found.ends_at == (datetime(2026, 12, 1, tzinfo=UTC) if ends else None)


def test_a_status_that_is_new_is_told_to_nobody() -> None:
    with pytest.raises(UnknownAtStripe):
        subscription_form(subscriptions._subscription(subscription(status="hibernating")), None)
    with pytest.raises(UnknownAtStripe):
        invoice_form(invoice_of({"id": "in_1", "status": "pondering"}), AT)


@pytest.mark.parametrize(
    "more",
    [
        {"parent": {"subscription_details": {"subscription": "sub_1"}}},
        {"parent": {"subscription_details": {"subscription": {"id": "sub_1", "object": "subscription"}}}},
        {"subscription": "sub_1"},
        {"parent": None, "lines": {"data": [{"parent": {"subscription_item_details": {"subscription": "sub_1"}}}]}},
        {"parent": None, "lines": {"data": [{"subscription": "sub_1"}, {"parent": None}]}},
    ],
)
def test_the_subscription_of_an_invoice_is_found_wherever_it_is(more: dict[str, Any]) -> None:
    assert invoice_of({"id": "in_1", "status": "paid", **more}).subscription_id == "sub_1"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"parent": None},
        {"parent": {"type": "quote_details"}},
        {"lines": {"data": [{"subscription": "sub_1"}, {"subscription": "sub_2"}]}},
        {"lines": None, "subscription": ""},
    ],
)
def test_an_invoice_of_nobody_knows_which_is_of_none(more: dict[str, Any]) -> None:
    assert invoice_of({"id": "in_1", "status": "paid", **more}).subscription_id is None


@pytest.mark.parametrize(
    ("before", "after", "used"),
    [
        (None, None, "0"),
        (0, 0, "0"),
        (-2_000, None, "0"),
        (-2_000, 0, "20"),
        (-50_000, -39_244, "107.56"),
        # What the customer owes is no credit, whether it was asked for with the invoice or is to be with the next one.
        (120, 0, "0"),
        (0, 10, "0"),
        (-5, 5, "0.05"),
    ],
)
def test_of_the_customers_balance_an_invoice_uses_credit_alone(
    before: int | None, after: int | None, used: str
) -> None:
    balances = {"starting_balance": before, "ending_balance": after}
    assert invoice_of({"id": "in_1", "status": "paid", "currency": "chf", **balances}).credit_used == Decimal(used)


def test_a_renewal_paid_from_the_customers_balance_is_paid() -> None:
    found = invoice_of(
        {
            "id": "in_1",
            "status": "paid",
            "billing_reason": "subscription_cycle",
            "total": 4900,
            "amount_paid": 0,
            "currency": "chf",
            "charge": None,
            "payments": {"data": []},
            "status_transitions": {"paid_at": START},
        }
    )
    form = invoice_form(found, AT)
    assert (form.status, form.billing_reason, form.paid_at) == (
        "paid",
        "subscription_cycle",
        datetime(2026, 11, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"subscriptionRecordId": "0197c1d4-0001-7abc-8def-0123456789ab"}, True),
        ({"subscriptionRecordId": "1"}, False),
        ({"subscriptionRecordId": ""}, False),
        ({}, False),
    ],
)
def test_our_id_is_read_from_what_an_object_carries(metadata: dict[str, str], found: bool) -> None:
    assert (subscription_id_in(metadata) is not None) == found


@pytest.mark.parametrize(
    ("status", "code", "state"),
    [
        ("succeeded", None, RechargeState.SUCCEEDED),
        ("processing", None, RechargeState.PROCESSING),
        ("requires_capture", None, RechargeState.PROCESSING),
        ("new", None, RechargeState.PROCESSING),
        ("requires_action", None, RechargeState.ACTION_REQUIRED),
        ("requires_payment_method", "authentication_required", RechargeState.ACTION_REQUIRED),
        ("requires_payment_method", "insufficient_funds", RechargeState.DECLINED),
        ("canceled", None, RechargeState.DECLINED),
    ],
)
def test_what_a_payment_means_for_its_recharge(status: str, code: str | None, state: RechargeState) -> None:
    intent = PaymentIntent("pi_1", status, Decimal(0), "CHF", AT, decline_code=code)
    assert observed_state(intent) is state


def test_an_intent_with_its_charges_inside_is_read_too() -> None:
    old = {
        "id": "pi_1",
        "object": "payment_intent",
        "status": "succeeded",
        "amount_received": 5000,
        "currency": "chf",
        "created": START,
        "charges": {"data": [{"id": "ch_1", "created": START}]},
        "last_payment_error": None,
        "metadata": None,
    }
    assert gateway.payment_intent(old).amount_received == Decimal(50)


def test_what_the_buyer_was_shown_is_not_what_was_paid() -> None:
    shown = {"presentment_amount": 8790, "presentment_currency": "jpy"}
    intent = {"id": "pi_1", "status": "succeeded", "amount_received": 5000, "currency": "chf", "created": START}
    session = {"id": "cs_test_1", "mode": "payment", "status": "complete", "payment_status": "paid", "created": START}
    now = gateway._session(
        {**session, "amount_total": 5000, "currency": "chf", "payment_intent": intent, "presentment_details": shown}
    )
    conversion = {"amount_total": 5000, "fx_rate": "175.8", "source_currency": "chf"}
    before = gateway._session(
        {
            **session,
            "amount_total": 8790,
            "currency": "jpy",
            "payment_intent": intent,
            "currency_conversion": conversion,
        }
    )
    for found in (now, before):
        assert found.payment_intent is not None
        assert (found.payment_intent.amount_received, found.payment_intent.currency) == (Decimal(50), "CHF")


def test_a_session_is_told_of_in_three_words() -> None:
    session = {"id": "cs_test_1", "mode": "subscription", "payment_status": "paid", "created": START}
    states = {
        status: checkout_form(gateway._session({**session, "status": status})).state
        for status in ("open", "complete", "expired", None, "new")
    }
    assert states == {"open": "open", "complete": "completed", "expired": "closed", None: "open", "new": "open"}


def test_a_price_differs_by_amount_interval_and_form() -> None:
    order = price_orders(plan())[0]
    there = {
        "id": "price_1",
        "lookup_key": order.lookup_key,
        "product": order.product_id,
        "currency": "chf",
        "unit_amount_decimal": "2900",
        "recurring": {"interval": "month", "interval_count": 1},
        "metadata": {"kind": "members"},
    }
    assert not differs(prices._price(there), order)
    for change in (
        {"unit_amount_decimal": "2901"},
        {"unit_amount_decimal": None},
        {"currency": "eur"},
        {"recurring": {"interval": "year", "interval_count": 1}},
        {"recurring": {"interval": "month", "interval_count": 3}},
        {"recurring": None},
        {"product": "prod_1"},
        {"metadata": {}},
    ):
        assert differs(prices._price({**there, **change}), order), change


def test_ids_of_ours_are_uuids() -> None:
    some = uuid4()
    assert subscription_id_in({"subscriptionRecordId": str(some).upper()}) == some
    assert isinstance(subscription_id_in({"subscriptionRecordId": some.hex}), UUID)
