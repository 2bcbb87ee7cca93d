"""What the fake Stripe does by its own clock: renewals, trials, retries of payments; driven by the official SDK."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import stripe
import stripe.checkout

from tests.integration.fakestripe_support import (
    FakeStripeProcess,
    Json,
    Receiver,
    arrived,
    client_of,
    customer_with,
    make_plan,
    plain,
    receiver,
    with_changes,
)

# A fixture, which tests use by the name of their argument.
__all__ = ["receiver"]

DAY_S = 24 * 3600
HOUR_S = 3600


class Life:
    """A fake Stripe whose clock the tests of this file move; each begins where the one before left it."""

    def __init__(self, receiver: Receiver) -> None:
        self.fake = FakeStripeProcess(receiver.url)
        self.client = client_of(self.fake)
        self.receiver = receiver

    def now(self) -> int:
        """Return its time."""
        now: int = self.fake.http.get("/_control/state").json()["now"]
        return now

    def to(self, moment: int) -> None:
        """Move its clock to a moment, or at once where that has passed."""
        self.fake.control("clock/advance", {"seconds": max(0, moment - self.now())})

    async def subscription(self, key: str) -> Json:
        """Return a subscription as it is now."""
        return plain(await self.client.v1.subscriptions.retrieve_async(key, {"expand": ["latest_invoice"]}))

    async def invoices(self, subscription: str) -> list[stripe.Invoice]:
        """Return the invoices of a subscription, oldest first."""
        return (await self.client.v1.invoices.list_async({"subscription": subscription})).data[::-1]


@pytest.fixture(scope="module")
def life(receiver: Receiver) -> Iterator[Life]:
    """The fake Stripe of this file."""
    made = Life(receiver)
    yield made
    made.fake.stop()


def moment(year: int, month: int, day: int, hour: int = 9) -> int:
    """Return a moment in seconds."""
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp())


def period_of(subscription: Json) -> tuple[int, int]:
    """Return the period of the first item."""
    item = subscription["items"]["data"][0]
    return item["current_period_start"], item["current_period_end"]


def day_of(seconds: int) -> str:
    """Return the day, for comparing."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


async def test_months_begun_on_the_31st_end_with_the_month_and_every_one_is_paid_in_order(life: Life) -> None:
    year = datetime.fromtimestamp(life.now(), UTC).year + 1
    life.to(moment(year, 1, 31))
    plan = await make_plan(life.client)
    customer = await customer_with(life.client)
    made = await life.client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items(2, 1)})
    days = [day_of(period_of(plain(made))[1])]
    for _ in range(2):
        _, end = period_of(await life.subscription(made.id))
        life.to(end)
        days.append(day_of(period_of(await life.subscription(made.id))[1]))
    assert days == [f"{year}-02-{28 + (year % 4 == 0)}", f"{year}-03-31", f"{year}-04-30"]

    # Three months at once are lived through one after the other.
    _, end = period_of(await life.subscription(made.id))
    life.to(end + 65 * DAY_S)
    after = await life.subscription(made.id)
    assert (after["status"], day_of(period_of(after)[1])) == ("active", f"{year}-07-31")
    invoices = await life.invoices(made.id)
    assert [invoice.billing_reason for invoice in invoices] == ["subscription_create", *["subscription_cycle"] * 5]
    assert {(invoice.status, invoice.amount_paid) for invoice in invoices} == {("paid", 2500)}
    starts = [invoice.lines.data[0].period.start for invoice in invoices]
    ends = [invoice.lines.data[0].period.end for invoice in invoices]
    assert starts[1:] == ends[:-1] == [invoice.created for invoice in invoices][1:]
    events = await arrived(life.receiver, str(invoices[-1].id), "invoice.paid")
    renewed = [str(event.type) for event in events]
    assert renewed.index("invoice.created") < renewed.index("customer.subscription.updated")
    assert renewed.index("invoice.finalized") < renewed.index("invoice.paid")
    paid = [e for e in life.receiver.events(made.id) if e.type == "invoice.paid"]
    assert [plain(event)["data"]["object"]["id"] for event in paid] == [invoice.id for invoice in invoices]
    assert [event.created for event in paid] == [invoice.created for invoice in invoices]
    await life.client.v1.subscriptions.cancel_async(made.id)


async def test_a_year_begun_on_the_29th_of_february_ends_on_the_28th(life: Life) -> None:
    year = datetime.fromtimestamp(life.now(), UTC).year + 1
    year += -year % 4
    life.to(moment(year, 2, 29))
    plan = await make_plan(life.client, interval="year", cents=12_000)
    customer = await customer_with(life.client)
    made = await life.client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items(1, 1)})
    _, end = period_of(plain(made))
    assert day_of(end) == f"{year + 1}-02-28"
    life.to(end)
    assert day_of(period_of(await life.subscription(made.id))[1]) == f"{year + 2}-02-28"
    await life.client.v1.subscriptions.cancel_async(made.id)


async def test_a_trial_warns_three_days_before_its_end_and_is_paid_at_it(life: Life) -> None:
    plan = await make_plan(life.client)
    customer = await customer_with(life.client)
    begun = life.now()
    made = await life.client.v1.subscriptions.create_async(
        {"customer": customer.id, "items": plan.items(), "trial_end": begun + 14 * DAY_S}
    )
    life.to(begun + 11 * DAY_S - 60)
    [first] = await life.invoices(made.id)
    assert (first.billing_reason, first.total) == ("subscription_create", 0)
    assert "customer.subscription.trial_will_end" not in life.receiver.types(made.id)
    life.to(begun + 11 * DAY_S)
    [warned] = [
        event
        for event in await arrived(life.receiver, made.id, "customer.subscription.trial_will_end")
        if event.type == "customer.subscription.trial_will_end"
    ]
    assert warned.created == begun + 11 * DAY_S
    life.to(begun + 14 * DAY_S)
    after = await life.subscription(made.id)
    assert (after["status"], after["billing_cycle_anchor"]) == ("active", begun + 14 * DAY_S)
    assert (after["latest_invoice"]["billing_reason"], after["latest_invoice"]["status"]) == (
        "subscription_cycle",
        "paid",
    )
    await life.client.v1.subscriptions.cancel_async(made.id)

    short = await life.client.v1.subscriptions.create_async(
        {"customer": customer.id, "items": plan.items(), "trial_period_days": 2}
    )
    await arrived(life.receiver, short.id, "customer.subscription.trial_will_end")
    ended = await life.client.v1.subscriptions.update_async(short.id, {"trial_end": "now"})
    assert ended.status == "active"
    assert [row.billing_reason for row in await life.invoices(short.id)][1:] == ["subscription_update"]
    await life.client.v1.subscriptions.cancel_async(short.id)


@pytest.mark.parametrize(("missing", "status"), [("pause", "paused"), ("cancel", "canceled"), (None, "past_due")])
async def test_a_trial_without_a_card_ends_as_the_subscription_says(
    life: Life, missing: str | None, status: str
) -> None:
    plan = await make_plan(life.client)
    customer = await life.client.v1.customers.create_async({"email": "trial@example.com"})
    params: Any = {"customer": customer.id, "items": plan.items(), "trial_period_days": 5}
    if missing is not None:
        params["trial_settings"] = {"end_behavior": {"missing_payment_method": missing}}
    made = await life.client.v1.subscriptions.create_async(params)
    life.to(life.now() + 5 * DAY_S)
    assert (await life.subscription(made.id))["status"] == status
    if status == "paused":
        await arrived(life.receiver, made.id, "customer.subscription.paused")
        method = await life.client.v1.payment_methods.attach_async("pm_card_visa", {"customer": customer.id})
        await life.client.v1.subscriptions.update_async(made.id, {"default_payment_method": method.id})
        assert (await life.client.v1.subscriptions.resume_async(made.id)).status == "active"
        await arrived(life.receiver, made.id, "customer.subscription.resumed")
    if status != "canceled":
        await life.client.v1.subscriptions.cancel_async(made.id)


async def test_a_renewal_that_fails_is_tried_again_and_the_subscription_ends_or_goes_on(life: Life) -> None:
    plan = await make_plan(life.client)
    customer = await customer_with(life.client, "pm_card_failsAtRenewal")
    made = await life.client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items(2, 1)})
    assert made.status == "active"
    _, end = period_of(plain(made))
    life.to(end)
    late = await life.subscription(made.id)
    invoice = late["latest_invoice"]
    assert (late["status"], invoice["status"], invoice["attempt_count"]) == ("past_due", "open", 1)
    assert invoice["next_payment_attempt"] == end + 3 * DAY_S
    assert invoice["hosted_invoice_url"].startswith(life.fake.url)
    assert "invoice.payment_failed" in [
        event.type for event in await arrived(life.receiver, invoice["id"], "invoice.payment_failed")
    ]

    # The card is good again, and the next attempt pays.
    method = plain(customer)["invoice_settings"]["default_payment_method"]
    life.fake.control(f"payment_methods/{method}", {"card": "pm_card_visa"})
    life.to(end + 3 * DAY_S)
    back = await life.subscription(made.id)
    assert (back["status"], back["latest_invoice"]["status"], back["latest_invoice"]["attempt_count"]) == (
        "active",
        "paid",
        2,
    )

    life.fake.control(f"payment_methods/{method}", {"card": "pm_card_chargeCustomerFail"})
    _, end = period_of(back)
    life.to(end + (3 + 5 + 7) * DAY_S - 60)
    assert (await life.subscription(made.id))["status"] == "past_due"
    life.to(end + (3 + 5 + 7) * DAY_S)
    gone = await life.subscription(made.id)
    assert (gone["status"], gone["cancellation_details"]["reason"]) == ("canceled", "payment_failed")
    assert gone["latest_invoice"]["attempt_count"] == 4
    await arrived(life.receiver, made.id, "customer.subscription.deleted")


async def test_dunning_can_end_unpaid_whose_later_invoices_stay_drafts(life: Life) -> None:
    life.fake.control("dunning", {"retry_days": [1], "then": "unpaid"})
    plan = await make_plan(life.client)
    customer = await customer_with(life.client, "pm_card_failsAtRenewal")
    made = await life.client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
    _, end = period_of(plain(made))
    life.to(end + DAY_S)
    unpaid = await life.subscription(made.id)
    assert unpaid["status"] == "unpaid"
    first = unpaid["latest_invoice"]["id"]
    _, end = period_of(unpaid)
    life.to(end)
    later = await life.subscription(made.id)
    assert (later["status"], later["latest_invoice"]["status"]) == ("unpaid", "draft")
    # Paying an older invoice says nothing about the newest.
    await life.client.v1.invoices.pay_async(first, {"payment_method": "pm_card_visa"})
    assert (await life.subscription(made.id))["status"] == "unpaid"
    await life.client.v1.invoices.pay_async(later["latest_invoice"]["id"], {"payment_method": "pm_card_visa"})
    assert (await life.subscription(made.id))["status"] == "active"
    await life.client.v1.subscriptions.cancel_async(made.id)
    life.fake.control("dunning", {})


async def test_a_renewal_whose_holder_must_confirm_waits_for_them(life: Life) -> None:
    plan = await make_plan(life.client)
    customer = await customer_with(life.client)
    made = await life.client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
    method = plain(customer)["invoice_settings"]["default_payment_method"]
    life.fake.control(f"payment_methods/{method}", {"card": "pm_card_authenticationRequired"})
    life.to(period_of(plain(made))[1])
    late = await life.subscription(made.id)
    invoice = late["latest_invoice"]["id"]
    await arrived(life.receiver, invoice, "invoice.payment_action_required", "invoice.payment_failed")
    assert late["status"] == "past_due"
    [payment] = (await life.client.v1.invoice_payments.list_async({"invoice": invoice})).data
    intent = plain(
        await life.client.v1.payment_intents.retrieve_async(str(plain(payment)["payment"]["payment_intent"]))
    )
    assert intent["status"] == "requires_action"
    confirmed = life.fake.http.post(intent["next_action"]["redirect_to_url"]["url"], data={"action": "confirm"})
    assert confirmed.status_code == 200
    assert (await life.subscription(made.id))["status"] == "active"
    await life.client.v1.subscriptions.cancel_async(made.id)


async def test_prorations_are_half_in_the_middle_and_on_the_next_invoice(life: Life) -> None:
    plan = await make_plan(life.client)
    customer = await customer_with(life.client)
    made = await life.client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items(2, 1)})
    start, end = period_of(plain(made))
    life.to((start + end) // 2)
    item = plain(made)["items"]["data"][0]["id"]
    await life.client.v1.subscription_items.update_async(item, {"quantity": 4})
    pending = (await life.client.v1.invoice_items.list_async({"customer": customer.id, "pending": True})).data
    # A second of waiting is far less than a Rappen here.
    assert sorted(row.amount for row in pending) == [-1000, 2000]
    life.to(end)
    latest = (await life.invoices(made.id))[-1]
    assert latest.total == 4 * 1000 + 500 + 1000
    prorated = [plain(line)["parent"]["subscription_item_details"]["proration"] for line in latest.lines.data]
    assert prorated == [False, False, True, True]
    await life.client.v1.subscriptions.cancel_async(made.id)


async def test_an_end_that_was_set_comes_with_the_period_and_a_pause_makes_invoices_void(life: Life) -> None:
    plan = await make_plan(life.client)
    customer = await customer_with(life.client)
    ending, paused = [
        await life.client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
        for _ in range(2)
    ]
    await life.client.v1.subscriptions.update_async(ending.id, {"cancel_at_period_end": True})
    await life.client.v1.subscriptions.update_async(paused.id, {"pause_collection": {"behavior": "void"}})
    end = max(period_of(plain(made))[1] for made in (ending, paused))
    life.to(end)
    gone = await life.subscription(ending.id)
    assert (gone["status"], gone["ended_at"]) == ("canceled", gone["cancel_at"])
    assert len(await life.invoices(ending.id)) == 1
    kept = await life.subscription(paused.id)
    assert (kept["status"], kept["latest_invoice"]["status"]) == ("active", "void")
    await life.client.v1.subscriptions.cancel_async(paused.id)


async def test_what_was_never_paid_is_given_up_after_a_day(life: Life) -> None:
    plan = await make_plan(life.client)
    customer = await customer_with(life.client, "pm_card_chargeCustomerFail")
    made = await life.client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
    life.to(life.now() + 23 * HOUR_S)
    after = await life.subscription(made.id)
    assert (after["status"], after["latest_invoice"]["status"]) == ("incomplete_expired", "void")

    good = await customer_with(life.client)
    waiting = await life.client.v1.subscriptions.create_async({"customer": good.id, "items": plan.items(1, 1)})
    method = plain(good)["invoice_settings"]["default_payment_method"]
    life.fake.control(f"payment_methods/{method}", {"card": "pm_card_chargeCustomerFail"})
    item = plain(waiting)["items"]["data"][0]["id"]
    change: Any = {"quantity": 9, "proration_behavior": "always_invoice", "payment_behavior": "pending_if_incomplete"}
    await life.client.v1.subscription_items.update_async(item, change)
    life.to(life.now() + 23 * HOUR_S)
    dropped = await life.subscription(waiting.id)
    assert (dropped["pending_update"], dropped["items"]["data"][0]["quantity"]) == (None, 1)
    await arrived(life.receiver, waiting.id, "customer.subscription.pending_update_expired")
    await life.client.v1.subscriptions.cancel_async(waiting.id)


async def test_the_invoice_of_a_renewal_stays_a_draft_for_as_long_as_is_asked(life: Life) -> None:
    life.fake.control("dunning", {"invoice_draft_s": HOUR_S})
    plan = await make_plan(life.client)
    customer = await customer_with(life.client)
    made = await life.client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
    _, end = period_of(plain(made))
    life.to(end)
    draft = (await life.subscription(made.id))["latest_invoice"]
    assert (draft["status"], draft["automatically_finalizes_at"]) == ("draft", end + HOUR_S)
    life.to(end + HOUR_S)
    assert (await life.subscription(made.id))["latest_invoice"]["status"] == "paid"
    await life.client.v1.subscriptions.cancel_async(made.id)
    life.fake.control("dunning", {})


async def test_a_disputed_card_takes_its_charge_back_a_day_later_and_refunds_are_decided_later(life: Life) -> None:
    charge: Any = {"amount": 5000, "currency": "chf", "confirm": True}
    disputed = await life.client.v1.payment_intents.create_async(
        with_changes(charge, payment_method="pm_card_createDispute")
    )
    pending, failing = [
        await life.client.v1.payment_intents.create_async(with_changes(charge, payment_method=card))
        for card in ("pm_card_pendingRefund", "pm_card_refundFail")
    ]
    waits = await life.client.v1.refunds.create_async({"payment_intent": pending.id})
    fails = await life.client.v1.refunds.create_async({"payment_intent": failing.id, "amount": 2000})
    assert (waits.status, fails.status) == ("pending", "succeeded")
    assert (await life.client.v1.disputes.list_async({"payment_intent": disputed.id})).data == []
    life.to(life.now() + DAY_S)
    [dispute] = (await life.client.v1.disputes.list_async({"payment_intent": disputed.id})).data
    assert (dispute.status, dispute.amount, dispute.reason) == ("needs_response", 5000, "fraudulent")
    await arrived(life.receiver, dispute.id, "charge.dispute.created", "charge.dispute.funds_withdrawn")
    assert (await life.client.v1.refunds.retrieve_async(waits.id)).status == "succeeded"
    assert (await life.client.v1.refunds.retrieve_async(fails.id)).status == "failed"
    taken_back = await life.client.v1.charges.retrieve_async(str(fails.charge))
    assert (taken_back.amount_refunded, taken_back.refunded) == (0, False)
    await arrived(life.receiver, fails.id, "refund.failed", "charge.refund.updated")


async def test_a_subscription_that_is_invoiced_by_mail_is_overdue_when_nobody_pays(life: Life) -> None:
    plan = await make_plan(life.client)
    customer = await life.client.v1.customers.create_async({"email": "mail@example.com"})
    made = await life.client.v1.subscriptions.create_async(
        {"customer": customer.id, "items": plan.items(), "collection_method": "send_invoice", "days_until_due": 10}
    )
    assert made.status == "active"
    [first] = await life.invoices(made.id)
    assert (first.status, first.due_date) == ("open", first.created + 10 * DAY_S)
    life.to(first.created + 10 * DAY_S)
    await arrived(life.receiver, str(first.id), "invoice.overdue")
    assert (await life.subscription(made.id))["status"] == "past_due"
    await life.client.v1.invoices.pay_async(str(first.id), {"paid_out_of_band": True})
    assert (await life.subscription(made.id))["status"] == "active"
    life.to(period_of(plain(made))[1])
    renewed = (await life.invoices(made.id))[-1]
    assert renewed.status == "open"
    await arrived(life.receiver, str(renewed.id), "invoice.sent")
    await life.client.v1.subscriptions.cancel_async(made.id)


async def test_a_restart_keeps_subscriptions_and_what_they_have_before_them(tmp_path: Path, receiver: Receiver) -> None:
    state = str(tmp_path / "state.json")
    fake = FakeStripeProcess(receiver.url, "--state-file", state)
    try:
        client = client_of(fake)
        customer = await customer_with(client, "pm_card_failsAtRenewal")
        plan = await make_plan(client)
        made = await client.v1.subscriptions.create_async({"customer": customer.id, "items": plan.items()})
        draft = await client.v1.invoices.create_async({"customer": customer.id})
        line: Any = {"customer": customer.id, "invoice": draft.id, "amount": 700, "currency": "chf"}
        await client.v1.invoice_items.create_async(line)
        fake.control("dunning", {"retry_days": [2], "then": "unpaid"})
    finally:
        fake.kill()
    fake = FakeStripeProcess(receiver.url, "--state-file", state)
    try:
        client = client_of(fake)
        await client.v1.invoice_items.create_async(line)
        assert (await client.v1.invoices.retrieve_async(draft.id)).total == 1400
        end = period_of(plain(made))[1]
        fake.control("clock/advance", {"seconds": end - made.created})
        assert (await client.v1.subscriptions.retrieve_async(made.id)).status == "past_due"
        fake.control("clock/advance", {"seconds": 2 * DAY_S})
        assert (await client.v1.subscriptions.retrieve_async(made.id)).status == "unpaid"
    finally:
        fake.stop()
