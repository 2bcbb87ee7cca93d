"""What payments tells of Stripe: renewals, graces, switching, cancelling and resuming, by API and in the portal;
nothing is told or credited twice."""

import asyncio
from datetime import timedelta
from uuid import uuid4

from rappen_contracts.directory.v1 import Mandate
from services.chassis.caller import Caller
from services.subscriptions.lifecycle.periods import Period, period_of_plan
from tests.integration.subscriptions.harness import BEGINNING, Service, changed, new_admin_of, new_member_of
from tests.integration.subscriptions.paying import DAY, MONTH, checkout, shows, subscribed
from tests.support.callers import system_admin
from tests.support.events import new_mandate
from tests.support.stripe_facts import SubscriptionAtStripe
from tests.support.waiting import eventually


async def test_a_renewal_is_told_once_and_in_any_order_and_a_proration_invoice_gives_no_budget(
    service: Service,
) -> None:
    mandate_id, _, stripe = await subscribed(service)
    stripe.period = stripe_second = period_of_plan(MONTH.end, "month", anchor=BEGINNING)
    service.clock.now = stripe_second.start
    moved = stripe.fetch()
    paid = stripe.fetch(invoice=stripe.invoice())
    proration = stripe.fetch(invoice=stripe.invoice("subscription_update"))
    for observed in (paid, proration, moved, paid, paid):
        await service.payments.observe(observed)
    await shows(service, mandate_id, currentPeriodEnd="2026-03-31T12:00:00Z")
    told = [changed(event) for event in await service.billing.events(mandate_id, 3)]
    assert [(data.period_start, data.budget_due) for data in told] == [
        (None, False),
        (MONTH.start, True),
        (stripe_second.start, True),
    ]


async def test_past_due_ends_with_its_grace_or_is_paid_and_only_stripes_word_counts(service: Service) -> None:
    mandate_id, _, stripe = await subscribed(service)
    stripe.period = period_of_plan(MONTH.end, "month", anchor=BEGINNING)
    service.clock.now = stripe.at = MONTH.end + timedelta(hours=1)
    stripe.status = "past_due"
    await service.payments.observe(stripe.fetch(invoice=stripe.invoice(status="open")))
    await shows(service, mandate_id, status="PAST_DUE")
    # Paid, and Stripe does not say active: an invoice of before.
    await service.payments.observe(stripe.fetch(invoice=stripe.invoice(period=MONTH)))
    stripe.status = "active"
    await service.payments.observe(stripe.fetch(invoice=stripe.invoice()))
    await shows(service, mandate_id, status="ACTIVE")
    stripe.status = "past_due"
    stripe.at = service.clock.now = service.clock.now + DAY
    await service.payments.observe(stripe.fetch())
    await shows(service, mandate_id, status="PAST_DUE")
    service.clock.now += timedelta(days=7) - timedelta(seconds=1)
    await service.advance()
    assert (await service.get(mandate_id, new_member_of(mandate_id))).json()["status"] == "PAST_DUE"
    service.clock.now += timedelta(seconds=1)
    await service.advance()
    assert (await service.get(mandate_id, new_member_of(mandate_id))).json()["status"] == "EXPIRED"
    requested = await service.payments.requests.next(mandate_id, 2)
    assert (requested.action, requested.subscription_id) == ("cancel", stripe.record)
    states = [changed(event).to_state for event in await service.billing.events(mandate_id, 6)]
    assert states == ["PENDING", "ACTIVE", "PAST_DUE", "ACTIVE", "PAST_DUE", "EXPIRED"]
    budgets = [
        changed(event).period_start
        for event in await service.billing.events(mandate_id, 6)
        if changed(event).budget_due
    ]
    assert budgets == [MONTH.start, MONTH.end]


async def test_a_plan_is_cancelled_and_resumed_by_api_and_taken_back_in_the_portal(service: Service) -> None:
    mandate_id, admin, stripe = await subscribed(service)
    for action, path, ends_at, status in (
        ("end_at_period_end", "cancel", MONTH.end, "CANCELED"),
        ("resume", "resume", None, "ACTIVE"),
    ):
        asked = len(service.payments.requests.of(mandate_id))
        changing = asyncio.create_task(service.post(f"{mandate_id}/{path}", admin))
        requested = await service.payments.requests.next(mandate_id, asked + 1)
        assert (requested.action, requested.subscription_id) == (action, stripe.record)
        await service.payments.settle(requested)
        stripe.ends_at = ends_at
        await service.payments.observe(stripe.fetch())
        answer = await changing
        assert answer.status_code == 200, answer.text
        assert (answer.json()["status"], answer.json()["recurring"]) == (status, ends_at is None)
        # Once more changes and asks nothing.
        assert (await service.post(f"{mandate_id}/{path}", admin)).json() == answer.json()
        assert len(service.payments.requests.of(mandate_id)) == asked + 1
    stripe.ends_at = MONTH.end
    await service.payments.observe(stripe.fetch())
    await shows(service, mandate_id, status="CANCELED", recurring=False)
    stripe.status, stripe.ended_at, stripe.at = "canceled", MONTH.end, MONTH.end
    service.clock.now = MONTH.end
    await service.payments.observe(stripe.fetch())
    await shows(service, mandate_id, status="EXPIRED")
    answer = await service.post(f"{mandate_id}/resume", admin)
    assert (answer.status_code, answer.json()["code"]) == (409, "NO_SUBSCRIPTION")


async def test_the_last_word_about_the_end_counts_also_before_stripe_tells_of_the_one_before(
    service: Service,
) -> None:
    mandate_id, admin, stripe = await subscribed(service)
    words = [("cancel", "end_at_period_end"), ("resume", "resume"), ("cancel", "end_at_period_end")]
    for number, (path, action) in enumerate(words, start=2):
        changing = asyncio.create_task(service.post(f"{mandate_id}/{path}", admin))
        requested = await service.payments.requests.next(mandate_id, number)
        assert requested.action == action
        await service.payments.settle(requested)
        assert (await changing).status_code == 200
    stripe.ends_at = MONTH.end
    await service.payments.observe(stripe.fetch())
    await shows(service, mandate_id, status="CANCELED")
    resuming = asyncio.create_task(service.post(f"{mandate_id}/resume", admin))
    await service.payments.settle(await service.payments.requests.next(mandate_id, 5))
    assert (await resuming).status_code == 200
    # It shows as ended still, and the person ends it once more.
    cancelling = asyncio.create_task(service.post(f"{mandate_id}/cancel", admin))
    requested = await service.payments.requests.next(mandate_id, 6)
    assert requested.action == "end_at_period_end"
    await service.payments.settle(requested)
    assert (await cancelling).json()["recurring"] is False


async def test_what_stripe_refuses_is_said_and_can_be_tried_again(service: Service) -> None:
    mandate_id, admin, _ = await subscribed(service)
    for number in (2, 3):
        changing = asyncio.create_task(service.post(f"{mandate_id}/cancel", admin))
        requested = await service.payments.requests.next(mandate_id, number)
        await service.payments.settle(requested, "refused", code="NO_SUCH_SUBSCRIPTION")
        answer = await changing
        assert (answer.status_code, answer.json()["code"]) == (409, "STRIPE_REFUSED")


async def test_switching_schedules_the_new_plan_and_the_old_one_ends_with_its_period(service: Service) -> None:
    mandate_id, admin, old = await subscribed(service, "STARTER")
    again = await service.start(mandate_id, "STARTER", admin)
    assert (again.status_code, again.json()["code"]) == (409, "PLAN_RUNNING")
    service.clock.now += DAY
    _, requested = await checkout(service, mandate_id, "TEAM", admin)
    assert requested.start_at == MONTH.end
    new = SubscriptionAtStripe(
        record=requested.subscription_id,
        mandate_id=mandate_id,
        status="trialing",
        period=Period(service.clock.now, MONTH.end),
        trial_ends_at=MONTH.end,
        at=service.clock.now,
    )
    await service.payments.observe(new.fetch(completed=True, invoice=new.invoice("subscription_create")))
    ending = await service.payments.requests.next(mandate_id, 3)
    assert (ending.action, ending.subscription_id) == ("end_at_period_end", old.record)
    old.ends_at = MONTH.end
    await service.payments.observe(old.fetch())
    shown = await shows(service, mandate_id, status="CANCELED")
    assert (shown["scheduled"]["status"], shown["scheduled"]["planKey"]) == ("SCHEDULED", "TEAM")
    assert shown["scheduled"]["effectiveFrom"] == "2026-02-28T12:00:00Z"
    resumed = await service.post(f"{mandate_id}/resume", admin)
    assert (resumed.status_code, resumed.json()["code"]) == (409, "PLAN_SCHEDULED")

    service.clock.now = MONTH.end
    await service.advance()
    shown = (await service.get(mandate_id, admin)).json()
    assert (shown["planKey"], shown["status"], shown["scheduled"]) == ("TEAM", "ACTIVE", None)
    new.status, new.period = "active", period_of_plan(MONTH.end, "month", anchor=MONTH.end)
    await service.payments.observe(new.fetch(invoice=new.invoice()))
    await shows(service, mandate_id, currentPeriodStart="2026-02-28T12:00:00Z")
    events = [changed(event) for event in await service.billing.events(mandate_id, 8)]
    budgets = [(data.plan.key, data.period_start) for data in events if data.budget_due]
    assert budgets == [("STARTER", MONTH.start), ("TEAM", MONTH.end)]


async def test_a_scheduled_plan_is_withdrawn_by_cancel(service: Service) -> None:
    mandate_id, admin, _ = await subscribed(service, "STARTER")
    _, requested = await checkout(service, mandate_id, "TEAM", admin)
    new = SubscriptionAtStripe(
        record=requested.subscription_id,
        mandate_id=mandate_id,
        status="trialing",
        period=Period(BEGINNING, MONTH.end),
        at=BEGINNING,
    )
    await service.payments.observe(new.fetch(completed=True))
    await service.payments.requests.next(mandate_id, 3)
    cancelling = asyncio.create_task(service.post(f"{mandate_id}/cancel", admin))
    withdrawn = await service.payments.requests.next(mandate_id, 4)
    assert (withdrawn.action, withdrawn.subscription_id) == ("cancel", requested.subscription_id)
    assert (await cancelling).json()["scheduled"] is None


async def test_what_follows_a_plan_that_ends_early_is_charged_from_then_on(service: Service) -> None:
    mandate_id, admin, old = await subscribed(service, "STARTER")
    _, requested = await checkout(service, mandate_id, "TEAM", admin)
    assert requested.start_at == MONTH.end
    new = SubscriptionAtStripe(
        record=requested.subscription_id,
        mandate_id=mandate_id,
        status="trialing",
        period=Period(BEGINNING, MONTH.end),
        trial_ends_at=MONTH.end,
        at=BEGINNING,
    )
    await service.payments.observe(new.begins())
    setting = await service.payments.requests.next(mandate_id, 3)
    assert (setting.action, setting.subscription_id) == ("end_at_period_end", old.record)
    service.clock.now = old.at = new.at = BEGINNING + 10 * DAY
    old.status, old.ended_at = "canceled", old.at
    await service.payments.observe(old.fetch())
    begun = await service.payments.requests.next(mandate_id, 4)
    assert (begun.action, begun.subscription_id) == ("begin", new.record)
    await shows(service, mandate_id, planKey="TEAM", status="ACTIVE")
    new.status, new.trial_ends_at = "active", new.at
    new.period = period_of_plan(new.at, "month", anchor=new.at)
    await service.payments.settle(begun)
    await service.payments.observe(new.fetch(invoice=new.invoice("subscription_update")))
    await shows(service, mandate_id, status="ACTIVE", currentPeriodStart="2026-02-10T12:00:00Z")
    budgets = await service.fetch("SELECT period_start FROM given_budgets WHERE subscription_id = $1", new.record)
    assert [row["period_start"] for row in budgets] == [new.at]
    assert len(service.payments.requests.of(mandate_id)) == 4


async def test_the_internal_plan_follows_a_paid_one_and_a_trial_ends_at_once_for_a_paid_one(service: Service) -> None:
    mandate_id, _, old = await subscribed(service)
    await service.publish_directory(mandate_id, [(1, Mandate(id=mandate_id))])
    answer = await service.start(mandate_id, "INTERNAL", system_admin())
    assert answer.json()["redirectUrl"] is None
    assert answer.json()["subscription"]["scheduled"]["planKey"] == "INTERNAL"
    ending = await service.payments.requests.next(mandate_id, 2)
    assert (ending.action, ending.subscription_id) == ("end_at_period_end", old.record)
    service.clock.now = MONTH.end
    await service.advance()
    shown = (await service.get(mandate_id, system_admin())).json()
    assert (shown["planKey"], shown["status"], shown["currentPeriodEnd"]) == (
        "INTERNAL",
        "ACTIVE",
        "2026-03-28T12:00:00Z",
    )

    service.clock.now = BEGINNING
    other = new_mandate()
    admin = new_admin_of(other)
    await service.start(other, "TRIAL_7D", admin)
    _, requested = await checkout(service, other, "TEAM", admin)
    assert requested.start_at is None
    stripe = SubscriptionAtStripe(record=requested.subscription_id, mandate_id=other, period=MONTH, at=BEGINNING)
    await service.payments.observe(stripe.begins())
    await shows(service, other, status="ACTIVE", planKey="TEAM")
    states = [changed(event).to_state for event in await service.billing.events(other, 4)]
    assert states == ["TRIALING", "PENDING", "EXPIRED", "ACTIVE"]


async def test_a_plan_without_stripe_ends_with_its_period_and_is_resumed_before(service: Service) -> None:
    mandate_id = new_mandate()
    await service.publish_directory(mandate_id, [(1, Mandate(id=mandate_id))])
    await service.start(mandate_id, "INTERNAL", system_admin())
    admin = new_admin_of(mandate_id)
    for path, expected in (
        ("cancel", ("CANCELED", False)),
        ("resume", ("ACTIVE", True)),
        ("cancel", ("CANCELED", False)),
    ):
        answer = (await service.post(f"{mandate_id}/{path}", admin)).json()
        assert (answer["status"], answer["recurring"]) == expected
    service.clock.now = MONTH.end
    await service.advance()
    shown = (await service.get(mandate_id, admin)).json()
    assert (shown["status"], shown["currentPeriodEnd"]) == ("EXPIRED", "2026-02-28T12:00:00Z")


async def test_a_trial_that_is_cancelled_stays_until_its_end_and_is_not_resumed(service: Service) -> None:
    mandate_id = new_mandate()
    admin = new_admin_of(mandate_id)
    await service.start(mandate_id, "TRIAL_7D", admin)
    answer = (await service.post(f"{mandate_id}/cancel", admin)).json()
    assert (answer["status"], answer["recurring"]) == ("TRIALING", False)
    resumed = await service.post(f"{mandate_id}/resume", admin)
    assert (resumed.status_code, resumed.json()["code"]) == (409, "NOT_RESUMABLE")


async def test_what_is_told_before_its_record_is_kept_until_the_record_is_there(service: Service) -> None:
    mandate_id, _, _ = await subscribed(service)
    other, record = new_mandate(), uuid4()
    stripe = SubscriptionAtStripe(record=record, mandate_id=other, period=MONTH, at=BEGINNING)
    await service.payments.observe(stripe.begins())

    async def kept() -> bool:
        return bool(await service.fetch("SELECT 1 FROM stripe_facts WHERE subscription_id = $1", record))

    await eventually(kept, what="the facts kept")
    # As a record comes that is taken over from another system.
    await service.fetch(
        "INSERT INTO subscriptions (id, mandate_id, plan_key, terms, state, version, recurring, created_by, created_at)"
        " SELECT $1, $2, plan_key, terms, 'PENDING', 1, true, created_by, created_at FROM subscriptions"
        " WHERE mandate_id = $3",
        record,
        other,
        mandate_id,
    )
    await service.advance()
    shown = (await service.get(other, system_admin_of(other))).json()
    assert (shown["id"], shown["status"]) == (str(record), "ACTIVE")
    (event,) = await service.billing.events(other, 1)
    assert (changed(event).budget_due, changed(event).version) == (True, 2)


def system_admin_of(mandate_id: str) -> Caller:
    """The operator, who is also a member."""
    return system_admin().model_copy(update={"mandates": {mandate_id: True}})


async def test_an_observation_of_another_mandates_record_is_refused_and_the_next_is_applied(service: Service) -> None:
    mandate_id, _, stripe = await subscribed(service)
    stranger = new_mandate()
    stripe.mandate_id, stripe.status = stranger, "canceled"
    await service.payments.observe(stripe.fetch())

    async def refused() -> bool:
        rows = await service.fetch("SELECT error_code FROM quarantine WHERE key = $1", stranger.encode())
        return [row["error_code"] for row in rows] == ["CONFLICT"]

    await eventually(refused, what="the foreign observation set aside")
    assert (await service.get(mandate_id, new_member_of(mandate_id))).json()["status"] == "ACTIVE"


async def test_trials_are_told_to_end_once_for_each_reminder(service: Service) -> None:
    mandate_id = new_mandate()
    await service.start(mandate_id, "TRIAL_7D", new_admin_of(mandate_id))
    await service.advance()
    assert service.told.of(mandate_id) == []
    for days, number in ((4, 1), (6, 2)):
        service.clock.now = BEGINNING + days * DAY
        await service.advance()
        await service.advance()
        ending = await service.told.next(mandate_id, number)
        assert (ending.days_left, ending.plan_key) == (7 - days, "TRIAL_7D")
        assert ending.trial_ends_at == BEGINNING + 7 * DAY
    late = new_mandate()
    service.clock.now = BEGINNING
    await service.start(late, "TRIAL_7D", new_admin_of(late))
    service.clock.now = BEGINNING + 6.5 * DAY
    await service.advance()
    assert (await service.told.next(late, 1)).days_left == 1
    assert len(service.told.of(late)) == 1
    assert len(service.told.of(mandate_id)) == 2


async def test_what_waits_for_stripe_beyond_its_start_keeps_no_job_busy_and_one_that_fails_no_other(
    service: Service,
) -> None:
    await service.advance()
    waiting, broken, other = [await subscribed(service) for _ in range(3)]
    past_due = service.clock.now - timedelta(days=7) + timedelta(seconds=1)
    for _, _, stripe in (broken, other):
        stripe.status, stripe.at, stripe.period = "past_due", past_due, Period(past_due, MONTH.end)
        await service.payments.observe(stripe.fetch())
    for mandate_id, _, _ in (broken, other):
        await shows(service, mandate_id, status="PAST_DUE")
    # Of the first, nothing is known at Stripe; the terms of the second cannot be read.
    await service.fetch(
        "UPDATE subscriptions SET state = 'SCHEDULED', starts_at = $2, settle_at = $2 WHERE mandate_id = $1",
        waiting[0],
        service.clock.now,
    )
    await service.fetch("UPDATE stripe_facts SET subscription = NULL, applied = true WHERE mandate_id = $1", waiting[0])
    await service.fetch("UPDATE subscriptions SET terms = '{}' WHERE mandate_id = $1", broken[0])
    service.clock.now += timedelta(seconds=2)
    assert await service.settle_due() == 1
    assert await service.settle_due() == 0
    rows = await service.fetch(
        "SELECT mandate_id, state, settle_at FROM subscriptions WHERE mandate_id = ANY($1)",
        [waiting[0], broken[0], other[0]],
    )
    left_alone = service.clock.now + timedelta(hours=1)
    assert {row["mandate_id"]: (row["state"], row["settle_at"]) for row in rows} == {
        waiting[0]: ("SCHEDULED", left_alone),
        broken[0]: ("PAST_DUE", left_alone),
        other[0]: ("EXPIRED", None),
    }
    await service.fetch("UPDATE subscriptions SET settle_at = NULL WHERE mandate_id = $1", broken[0])
