"""The checkout of a plan that is paid: what is asked, what is answered, repeats, and what becomes of its record."""

import asyncio
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from rappen_contracts.directory.v1 import FeatureInstance, Mandate, Membership
from rappen_contracts.stripe.v1 import StripeRequested
from services.chassis.caller import Caller
from services.chassis.faults import FaultPoints
from services.chassis.return_url import Marks
from services.subscriptions.lifecycle.start_checkout import CheckoutOrder, StartCheckout
from tests.integration.subscriptions.harness import BEGINNING, Service, changed, new_admin_of
from tests.integration.subscriptions.paying import DAY, MONTH, checkout, shows
from tests.support.events import new_mandate
from tests.support.stripe_facts import SubscriptionAtStripe
from tests.support.waiting import eventually


async def test_a_paid_plan_answers_its_checkout_and_waits_until_it_is_paid(service: Service) -> None:
    mandate_id = new_mandate()
    await service.publish_directory(
        mandate_id,
        [
            (1, Mandate(id=mandate_id)),
            (2, Membership(mandate_id=mandate_id, user_id="a", roles=["admin"])),
            (3, Membership(mandate_id=mandate_id, user_id="b", roles=["member"])),
            (4, FeatureInstance(id=f"{mandate_id}-i", mandate_id=mandate_id, feature_code="chat")),
        ],
    )
    admin = new_admin_of(mandate_id)
    answer, requested = await checkout(service, mandate_id, "TEAM", admin)
    assert answer.status_code == 200, answer.text
    assert answer.json()["redirectUrl"] == f"https://pay.test/{requested.request_id}"
    shown = answer.json()["subscription"]
    assert (shown["planKey"], shown["status"], shown["recurring"]) == ("TEAM", "PENDING", True)
    assert (shown["currentPeriodStart"], shown["effectiveFrom"]) == (None, None)
    assert (requested.action, requested.subscription_id) == ("checkout", UUID(shown["id"]))
    assert requested.plan is not None
    assert (requested.plan.key, str(requested.plan.price_per_user.amount)) == ("TEAM", "29.000000")
    assert requested.quantities is not None
    assert (requested.quantities.members, requested.quantities.feature_instances) == (2, 1)
    assert requested.start_at is None
    assert requested.success_url == "https://app.test/plans?success=true&session_id={CHECKOUT_SESSION_ID}"
    assert requested.cancel_url == "https://app.test/plans?canceled=true"
    assert requested.requested_by == admin.user_id

    stripe = SubscriptionAtStripe(
        record=requested.subscription_id,
        mandate_id=mandate_id,
        period=MONTH,
        at=BEGINNING,
        members=2,
        feature_instances=1,
    )
    told = stripe.begins()
    for _ in range(3):
        await service.payments.observe(told)
    shown = await shows(service, mandate_id, status="ACTIVE")
    assert (shown["currentPeriodStart"], shown["currentPeriodEnd"]) == ("2026-01-31T12:00:00Z", "2026-02-28T12:00:00Z")
    began, active = (changed(event) for event in await service.billing.events(mandate_id, 2))
    assert (began.to_state, began.operative, began.budget_due) == ("PENDING", False, False)
    assert (active.from_state, active.to_state, active.operative, active.budget_due) == (
        "PENDING",
        "ACTIVE",
        True,
        True,
    )
    assert (active.period_start, active.period_end, active.cause) == (MONTH.start, MONTH.end, "evt_1")


@pytest.mark.parametrize("url", ["", "https://evil.test/", "https://app.test.evil.test/", "//app.test", "javascript:1"])
async def test_a_return_url_of_another_origin_is_refused_by_field(service: Service, url: str) -> None:
    mandate_id = new_mandate()
    answer = await service.start(mandate_id, "TEAM", new_admin_of(mandate_id), return_url=url)
    assert (answer.status_code, answer.json()["code"]) == (400, "RETURN_URL_NOT_ALLOWED")
    assert answer.json()["errors"][0]["field"] == "returnUrl"
    assert not await service.fetch("SELECT 1 FROM subscriptions WHERE mandate_id = $1", mandate_id)


async def test_a_start_whose_checkout_does_not_come_is_503_and_its_repeat_asks_again(service: Service) -> None:
    mandate_id, key = new_mandate(), {"Idempotency-Key": "start-1"}
    admin = new_admin_of(mandate_id)
    starting = asyncio.create_task(service.start(mandate_id, "TEAM", admin, headers=key))
    late = await service.payments.requests.next(mandate_id, 1)
    assert late.expires_at is not None
    await service.payments.settle(late, "expired")
    answer = await starting
    assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
    repeat, requested = await checkout(service, mandate_id, "TEAM", admin, headers=key)
    assert repeat.status_code == 200
    assert (requested.subscription_id, requested.request_id != late.request_id) == (late.subscription_id, True)
    # From here on a repeat is answered as at first, and payments is asked nothing.
    again = await service.start(mandate_id, "TEAM", admin, headers=key)
    assert again.json() == repeat.json()
    other = await service.start(mandate_id, "STARTER", admin, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    elsewhere = await service.start(mandate_id, "TEAM", admin, headers=key, return_url="https://app.test/other")
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    assert len(service.payments.requests.of(mandate_id)) == 2


async def test_a_refused_checkout_is_402_and_its_record_expires(service: Service) -> None:
    mandate_id = new_mandate()
    admin = new_admin_of(mandate_id)
    starting = asyncio.create_task(service.start(mandate_id, "TEAM", admin))
    await service.payments.settle(await service.payments.requests.next(mandate_id, 1), "refused", code="PLAN_REFUSED")
    answer = await starting
    assert (answer.status_code, answer.json()["code"]) == (402, "CHECKOUT_REFUSED")
    await shows(service, mandate_id, status="EXPIRED")


async def test_a_new_checkout_closes_the_one_before_and_a_closed_one_expires(service: Service) -> None:
    mandate_id = new_mandate()
    admin = new_admin_of(mandate_id)
    key = {"Idempotency-Key": "first"}
    _, first = await checkout(service, mandate_id, "TEAM", admin, headers=key)
    service.clock.now += DAY
    starting = asyncio.create_task(service.start(mandate_id, "STARTER", admin))
    asked = [await service.payments.requests.next(mandate_id, number) for number in (2, 3)]
    assert {(each.action, each.subscription_id == first.subscription_id) for each in asked} == {
        ("cancel", True),
        ("checkout", False),
    }
    for each in asked:
        await service.payments.settle(each)
    assert (await starting).json()["subscription"]["planKey"] == "STARTER"
    stripe = SubscriptionAtStripe(record=first.subscription_id, mandate_id=mandate_id, period=MONTH, at=BEGINNING)
    closed = stripe.begins()
    assert closed.checkout is not None
    session = closed.checkout.model_copy(update={"state": "closed", "stripe_subscription_id": None})
    await service.payments.observe(
        closed.model_copy(update={"checkout": session, "subscription": None, "invoice": None})
    )

    async def expired() -> bool:
        rows = await service.fetch("SELECT state FROM subscriptions WHERE id = $1", first.subscription_id)
        return [row["state"] for row in rows] == ["EXPIRED"]

    await eventually(expired, what="the closed checkout expired")
    repeat = await service.start(mandate_id, "TEAM", admin, headers=key)
    assert (repeat.status_code, repeat.json()["code"]) == (409, "CHECKOUT_ENDED")
    assert (await service.get(mandate_id, admin)).json()["status"] == "PENDING"


async def test_a_checkout_that_was_closed_before_it_was_opened_is_closed_again(service: Service) -> None:
    mandate_id = new_mandate()
    admin = new_admin_of(mandate_id)
    key = {"Idempotency-Key": "first"}
    starting = asyncio.create_task(service.start(mandate_id, "TEAM", admin, headers=key))
    late = await service.payments.requests.next(mandate_id, 1)
    await service.payments.settle(late, "expired")
    assert (await starting).status_code == 503
    service.clock.now += DAY
    starting = asyncio.create_task(service.start(mandate_id, "STARTER", admin))
    other: UUID | None = None
    for requested in [await service.payments.requests.next(mandate_id, number) for number in (2, 3)]:
        # There was nothing to cancel yet.
        await service.payments.settle(requested)
        if requested.action == "checkout":
            other = requested.subscription_id
    assert (await starting).status_code == 200
    repeat, opened = await checkout(service, mandate_id, "TEAM", admin, headers=key)
    assert (repeat.status_code, opened.subscription_id) == (200, late.subscription_id)
    cancelling = asyncio.create_task(service.post(f"{mandate_id}/cancel", admin))
    asked = [await service.payments.requests.next(mandate_id, number) for number in (5, 6)]
    assert {(each.action, each.subscription_id) for each in asked} == {
        ("cancel", late.subscription_id),
        ("cancel", other),
    }
    assert (await cancelling).status_code == 200


async def test_a_plan_that_begins_at_once_closes_a_checkout_that_is_open(service: Service) -> None:
    mandate_id = new_mandate()
    admin = new_admin_of(mandate_id)
    _, first = await checkout(service, mandate_id, "TEAM", admin)
    answer = await service.start(mandate_id, "TRIAL_7D", admin)
    assert answer.json()["subscription"]["status"] == "TRIALING"
    closing = await service.payments.requests.next(mandate_id, 2)
    assert (closing.action, closing.subscription_id) == ("cancel", first.subscription_id)


async def two_checkouts(service: Service) -> tuple[str, SubscriptionAtStripe, SubscriptionAtStripe, StripeRequested]:
    """A mandate that opens another checkout in place of one: both as Stripe has them once they are paid, and what is
    asked of the first."""
    mandate_id = new_mandate()
    admin = new_admin_of(mandate_id)
    _, first = await checkout(service, mandate_id, "TEAM", admin)
    starting = asyncio.create_task(service.start(mandate_id, "STARTER", admin))
    asked = [await service.payments.requests.next(mandate_id, number) for number in (2, 3)]
    (opened,) = [each for each in asked if each.action == "checkout"]
    (cancel,) = [each for each in asked if each.action == "cancel"]
    await service.payments.settle(opened)
    assert (await starting).status_code == 200
    replaced, chosen = (
        SubscriptionAtStripe(record=record, mandate_id=mandate_id, period=MONTH, at=BEGINNING, plan_key=plan_key)
        for record, plan_key in ((first.subscription_id, "TEAM"), (opened.subscription_id, "STARTER"))
    )
    return mandate_id, replaced, chosen, cancel


async def test_of_two_checkouts_that_are_both_paid_the_one_that_is_paid_back_changes_nothing(service: Service) -> None:
    mandate_id, replaced, chosen, cancel = await two_checkouts(service)
    await service.payments.observe(chosen.begins())
    await shows(service, mandate_id, status="ACTIVE", planKey="STARTER")
    # Paid before payments has come to what was asked of it.
    await service.payments.observe(replaced.begins())
    await service.payments.settle(cancel, code="CANCELED_AND_REFUNDED")
    replaced.status, replaced.ended_at = "canceled", BEGINNING
    await service.payments.observe(replaced.fetch())

    async def over() -> bool:
        rows = await service.fetch("SELECT state FROM subscriptions WHERE id = $1", replaced.record)
        return bool(rows[0]["state"] == "EXPIRED")

    await eventually(over, what="the end of the one that was paid back")
    await service.settled(mandate_id)
    shown = await shows(service, mandate_id, status="ACTIVE", planKey="STARTER")
    assert (shown["recurring"], shown["scheduled"]) == (True, None)
    actions = sorted(each.action for each in service.payments.requests.of(mandate_id))
    assert actions == ["cancel", "checkout", "checkout"]


async def test_a_checkout_that_was_paid_and_cannot_be_taken_back_counts(service: Service) -> None:
    mandate_id, replaced, _, cancel = await two_checkouts(service)
    await service.payments.observe(replaced.begins())

    async def known() -> bool:
        return bool(await service.fetch("SELECT 1 FROM stripe_facts WHERE subscription_id = $1", replaced.record))

    await eventually(known, what="what Stripe has")
    await service.payments.settle(cancel, "refused")

    async def answered() -> bool:
        answers = "SELECT 1 FROM stripe_requests WHERE request_id = $1 AND outcome = 'refused'"
        return bool(await service.fetch(answers, cancel.request_id))

    await eventually(answered, what="the answer")
    await service.advance()
    await shows(service, mandate_id, status="ACTIVE", planKey="TEAM")


async def test_what_was_paid_after_its_end_is_cancelled_once_until_stripe_tells_of_it(service: Service) -> None:
    _, replaced, _, cancel = await two_checkouts(service)
    paid = replaced.begins()
    assert paid.checkout is not None
    session = paid.checkout.model_copy(update={"state": "closed", "stripe_subscription_id": None})
    closed = paid.model_copy(update={"version": 0, "checkout": session, "subscription": None, "invoice": None})
    for observed in (closed, paid):
        await service.payments.observe(observed)

    async def known() -> bool:
        live = "SELECT 1 FROM stripe_facts WHERE subscription_id = $1 AND subscription IS NOT NULL"
        return bool(await service.fetch(live, replaced.record))

    await eventually(known, what="what Stripe has")
    await service.payments.settle(cancel, code="CANCELED_AND_REFUNDED")

    async def answered() -> bool:
        answers = "SELECT 1 FROM stripe_requests WHERE request_id = $1 AND outcome = 'done'"
        return bool(await service.fetch(answers, cancel.request_id))

    await eventually(answered, what="the answer")
    await service.advance()
    asked = "SELECT 1 FROM stripe_requests WHERE subscription_id = $1 AND action = 'cancel'"
    assert len(await service.fetch(asked, replaced.record)) == 1


def order_with_trial(service: Service, person: Caller, mandate_id: str) -> CheckoutOrder:
    """An order of a plan that is paid after a trial."""
    plan = replace(service.catalogue.plan("TEAM"), trial_days=14)
    return CheckoutOrder(person, mandate_id, plan, uuid4(), "https://app.test/plans", "tests")


def start_checkout(service: Service) -> StartCheckout:
    return StartCheckout(
        service.database,
        return_origins=("https://app.test",),
        marks=Marks("success", "session_id", "canceled"),
        wait_s=30,
        clock=service.clock,
        faults=FaultPoints(None),
    )


async def test_a_person_with_two_checkouts_has_a_trial_in_one_of_them(service: Service) -> None:
    mandates = [new_mandate(), new_mandate()]
    person = new_admin_of(*mandates)
    start = start_checkout(service)
    starting = [asyncio.create_task(start(order_with_trial(service, person, mandate_id))) for mandate_id in mandates]
    asked = [await service.payments.requests.next(mandate_id, 1) for mandate_id in mandates]
    for requested in asked:
        await service.payments.settle(requested)
    await asyncio.gather(*starting)
    assert sorted(requested.start_at is None for requested in asked) == [False, True]


async def test_beside_an_open_checkout_with_a_trial_no_other_trial_begins_until_it_is_cancelled(
    service: Service,
) -> None:
    mandate_id, elsewhere = new_mandate(), new_mandate()
    person, colleague = new_admin_of(mandate_id, elsewhere), new_admin_of(mandate_id)
    order = order_with_trial(service, person, mandate_id)
    starting = asyncio.create_task(start_checkout(service)(order))
    requested = await service.payments.requests.next(mandate_id, 1)
    await service.payments.settle(requested)
    await starting
    assert requested.start_at is not None
    # The mandate's and the person's own.
    for mandate, admin in ((mandate_id, person), (mandate_id, colleague), (elsewhere, person)):
        refused = await service.start(mandate, "TRIAL_7D", admin)
        assert (refused.status_code, refused.json()["code"]) == (409, "TRIAL_IN_CHECKOUT")
    assert (await service.post(f"{mandate_id}/cancel", person)).status_code == 200
    closed = SubscriptionAtStripe(record=order.subscription_id, mandate_id=mandate_id, period=MONTH, at=BEGINNING)
    observed = closed.begins()
    assert observed.checkout is not None
    session = observed.checkout.model_copy(update={"state": "closed", "stripe_subscription_id": None})
    await service.payments.observe(
        observed.model_copy(update={"checkout": session, "subscription": None, "invoice": None})
    )
    await shows(service, mandate_id, status="EXPIRED")
    started = await service.start(mandate_id, "TRIAL_7D", person)
    assert started.json()["subscription"]["status"] == "TRIALING", started.text
