"""Starting plans over HTTP: what starts, what is refused, what is published, and that one start of many wins."""

import asyncio
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4, uuid5

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

import services.subscriptions.lifecycle.start_plan as start_plan_module
from rappen_contracts.directory.v1 import FeatureInstance, Mandate, Membership
from services.chassis.caller import Caller
from services.subscriptions.lifecycle.repository import lock_mandate
from tests.integration.subscriptions.harness import BEGINNING, Service, changed, new_admin_of, new_member_of
from tests.support.callers import system_admin
from tests.support.events import new_mandate

WEEK = timedelta(days=7)


async def known(service: Service) -> str:
    """A mandate that the directory knows."""
    mandate_id = new_mandate()
    await service.publish_directory(mandate_id, [(1, Mandate(id=mandate_id))])
    return mandate_id


async def test_a_trial_starts_at_once_and_is_told_with_its_budget(service: Service) -> None:
    mandate_id = new_mandate()
    answer = await service.start(mandate_id, "TRIAL_7D", new_admin_of(mandate_id))
    assert answer.status_code == 200
    body = answer.json()
    assert body["redirectUrl"] is None
    shown = body["subscription"]
    identity = shown.pop("id")
    assert shown == {
        "mandateId": mandate_id,
        "planKey": "TRIAL_7D",
        "status": "TRIALING",
        "recurring": False,
        "currentPeriodStart": "2026-01-31T12:00:00Z",
        "currentPeriodEnd": "2026-02-07T12:00:00Z",
        "effectiveFrom": "2026-01-31T12:00:00Z",
        "trialEndsAt": "2026-02-07T12:00:00Z",
        "quantities": {"members": 0, "featureInstances": 0},
        "scheduled": None,
    }
    # The answer was given after billing's place had read the event.
    (event,) = await service.billing.events(mandate_id, 1)
    data = changed(event)
    assert event.id == uuid5(UUID(identity), "1")
    assert (event.time, event.source) == (BEGINNING, "/rappen/subscriptions")
    assert (data.subscription_id, data.version, data.from_state, data.to_state) == (UUID(identity), 1, None, "TRIALING")
    assert (data.operative, data.budget_due) == (True, True)
    assert (data.period_start, data.period_end) == (BEGINNING, BEGINNING + WEEK)
    assert (data.plan.key, data.plan.budget.amount, data.plan.budget.currency) == ("TRIAL_7D", Decimal(5), "CHF")
    assert (data.plan.max_users, data.plan.max_feature_instances, data.plan.max_data_volume_mb) == (3, 3, 500)
    assert data.plan.markup_percent is None
    assert data.cause == answer.headers["x-request-id"]


async def test_another_plan_ends_the_trial_at_once_and_both_are_told_in_order(service: Service) -> None:
    mandate_id = await known(service)
    await service.start(mandate_id, "TRIAL_7D", new_admin_of(mandate_id))
    service.clock.now += timedelta(days=2)
    answer = await service.start(mandate_id, "INTERNAL", system_admin())
    assert answer.status_code == 200
    shown = answer.json()["subscription"]
    assert (shown["planKey"], shown["status"], shown["recurring"]) == ("INTERNAL", "ACTIVE", True)
    assert (shown["currentPeriodStart"], shown["currentPeriodEnd"]) == ("2026-02-02T12:00:00Z", "2026-03-02T12:00:00Z")

    began, ended, started = (changed(event) for event in await service.billing.events(mandate_id, 3))
    assert (ended.subscription_id, ended.version) == (began.subscription_id, 2)
    assert (ended.from_state, ended.to_state, ended.operative, ended.budget_due) == (
        "TRIALING",
        "EXPIRED",
        False,
        False,
    )
    assert ended.period_end == service.clock.now
    assert (started.from_state, started.to_state, started.version) == (None, "ACTIVE", 1)
    assert (started.operative, started.budget_due, started.plan.markup_percent) == (True, True, Decimal(0))
    recorded = await service.fetch(
        "SELECT t.name, t.cause, t.actor FROM transitions t JOIN subscriptions s ON s.id = t.subscription_id"
        " WHERE s.mandate_id = $1 AND t.actor = 'root' ORDER BY t.name",
        mandate_id,
    )
    cause = answer.headers["x-request-id"]
    assert [tuple(row) for row in recorded] == [("activated", cause, "root"), ("trial_ended", cause, "root")]


async def test_a_user_has_one_trial_and_so_has_a_mandate(service: Service) -> None:
    first, second = new_mandate(), new_mandate()
    user = new_admin_of(first, second)
    assert (await service.start(first, "TRIAL_7D", user)).status_code == 200
    for mandate_id, caller in ((second, user), (first, new_admin_of(first))):
        service.clock.now = BEGINNING + WEEK
        await service.advance()
        answer = await service.start(mandate_id, "TRIAL_7D", caller)
        assert (answer.status_code, answer.json()["code"]) == (409, "TRIAL_USED")
    assert (await service.get(second, user)).json()["id"] is None


async def test_a_trial_that_is_over_but_not_yet_written_down_is_used(service: Service) -> None:
    mandate_id = new_mandate()
    admin = new_admin_of(mandate_id)
    await service.start(mandate_id, "TRIAL_7D", admin)
    service.clock.now += WEEK
    assert (await service.start(mandate_id, "TRIAL_7D", admin)).json()["code"] == "TRIAL_USED"


async def test_the_operator_may_give_trials_to_many_mandates_but_one_to_each(service: Service) -> None:
    for _ in range(2):
        mandate_id = await known(service)
        assert (await service.start(mandate_id, "TRIAL_7D", system_admin())).status_code == 200
        service.clock.now += WEEK
        await service.advance()
        assert (await service.start(mandate_id, "TRIAL_7D", system_admin())).json()["code"] == "TRIAL_USED"


async def test_the_plan_that_runs_and_any_plan_beside_one_that_is_no_trial_are_refused(service: Service) -> None:
    mandate_id = await known(service)
    assert (await service.start(mandate_id, "INTERNAL", system_admin())).status_code == 200
    again = await service.start(mandate_id, "INTERNAL", system_admin())
    assert (again.status_code, again.json()["code"]) == (409, "PLAN_RUNNING")
    beside = await service.start(mandate_id, "TRIAL_7D", new_admin_of(mandate_id))
    assert (beside.status_code, beside.json()["code"]) == (409, "OTHER_PLAN_RUNNING")
    assert len(await service.billing.events(mandate_id, 1)) == 1


async def test_a_plan_that_is_not_in_the_catalogue_is_refused_by_field(service: Service) -> None:
    mandate_id = new_mandate()
    answer = await service.start(mandate_id, "FREE", new_admin_of(mandate_id))
    assert (answer.status_code, answer.json()["code"]) == (422, "UNKNOWN_PLAN")
    assert answer.json()["errors"][0]["field"] == "planKey"


async def test_only_the_operator_gives_the_internal_plan(service: Service) -> None:
    mandate_id = new_mandate()
    assert (await service.start(mandate_id, "INTERNAL", new_admin_of(mandate_id))).status_code == 403


async def test_of_twenty_starts_at_once_exactly_one_wins(service: Service) -> None:
    mandate_id = await known(service)
    answers = await asyncio.gather(*(service.start(mandate_id, "INTERNAL", system_admin()) for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 19}
    assert await operative_count(service, mandate_id) == 1
    assert len(await service.billing.events(mandate_id, 1)) == 1


async def test_of_twenty_starts_upon_a_trial_exactly_one_wins_and_the_trial_ends_once(service: Service) -> None:
    mandate_id = await known(service)
    await service.start(mandate_id, "TRIAL_7D", new_admin_of(mandate_id))
    answers = await asyncio.gather(*(service.start(mandate_id, "INTERNAL", system_admin()) for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 19}
    assert await operative_count(service, mandate_id) == 1
    events = [changed(event) for event in await service.billing.events(mandate_id, 3)]
    assert [event.to_state for event in events] == ["TRIALING", "EXPIRED", "ACTIVE"]


async def test_of_twenty_trials_of_one_user_at_once_exactly_one_starts(service: Service) -> None:
    mandates = [new_mandate() for _ in range(20)]
    user = new_admin_of(*mandates)
    answers = await asyncio.gather(*(service.start(mandate_id, "TRIAL_7D", user) for mandate_id in mandates))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 19}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"TRIAL_USED"}
    (row,) = await service.fetch("SELECT count(*) AS n FROM subscriptions WHERE mandate_id = ANY($1)", mandates)
    assert row["n"] == 1


async def operative_count(service: Service, mandate_id: str) -> int:
    rows = await service.fetch(
        "SELECT 1 FROM subscriptions WHERE mandate_id = $1 AND state IN ('TRIALING', 'ACTIVE')", mandate_id
    )
    return len(rows)


@pytest.mark.parametrize("state", ["TRIALING", "ACTIVE", "PAST_DUE", "CANCELED"])
async def test_the_database_refuses_a_second_operative_subscription(service: Service, state: str) -> None:
    mandate_id = new_mandate()
    await service.start(mandate_id, "TRIAL_7D", new_admin_of(mandate_id))
    copy = (
        "INSERT INTO subscriptions (id, mandate_id, plan_key, terms, state, version, recurring, created_by, created_at)"
        " SELECT $2, mandate_id, plan_key, terms, $3, 1, recurring, created_by, created_at"
        " FROM subscriptions WHERE mandate_id = $1"
    )
    with pytest.raises(asyncpg.UniqueViolationError, match="uq_subscriptions_operative"):
        await service.fetch(copy, mandate_id, uuid4(), state)
    waiting = uuid4()
    await service.fetch(copy, mandate_id, waiting, "SCHEDULED")
    with pytest.raises(asyncpg.UniqueViolationError, match="uq_subscriptions_operative"):
        await service.fetch("UPDATE subscriptions SET state = $2 WHERE id = $1", waiting, state)
    # What waits is shown inside what runs.
    shown = (await service.get(mandate_id, new_member_of(mandate_id))).json()
    assert (shown["status"], shown["scheduled"]["status"]) == ("TRIALING", "SCHEDULED")
    assert shown["scheduled"]["id"] == str(waiting)
    assert "scheduled" not in shown["scheduled"]


async def test_a_repeat_that_meets_its_first_request_in_between_is_the_same_request(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    mandate_id, key = await known(service), {"Idempotency-Key": "key-1"}
    person = new_admin_of(mandate_id)
    lock = lock_mandate
    firsts: list[httpx.Response | None] = []

    async def lock_after_the_first(connection: AsyncConnection, mandate_id: str) -> None:
        if not firsts:
            firsts.append(None)
            firsts[0] = await service.start(mandate_id, "TRIAL_7D", person, headers=key)
        await lock(connection, mandate_id)

    monkeypatch.setattr(start_plan_module, "lock_mandate", lock_after_the_first)
    repeat = await service.start(mandate_id, "TRIAL_7D", person, headers=key)
    (first,) = firsts
    assert first is not None
    assert (first.status_code, repeat.status_code) == (200, 200), repeat.text
    assert first.json()["subscription"]["id"] == repeat.json()["subscription"]["id"]


async def test_a_start_whose_answer_was_lost_is_repeated_with_its_key(service: Service) -> None:
    mandate_id, key = await known(service), {"Idempotency-Key": "key-1"}
    person = new_admin_of(mandate_id)
    first, *repeats = await asyncio.gather(
        *(service.start(mandate_id, "TRIAL_7D", person, headers=key) for _ in range(4))
    )
    again = await service.start(mandate_id, "TRIAL_7D", person, headers=key)
    assert {answer.status_code for answer in (first, *repeats, again)} == {200}
    assert {answer.json()["subscription"]["id"] for answer in (first, *repeats, again)} == {
        first.json()["subscription"]["id"]
    }
    assert len(await service.billing.events(mandate_id, 1)) == 1
    other = await service.start(mandate_id, "INTERNAL", system_admin(), headers=key)
    assert other.status_code == 200
    mismatch = await service.start(mandate_id, "TRIAL_7D", system_admin(), headers=key)
    assert (mismatch.status_code, mismatch.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    assert (await service.start(mandate_id, "TRIAL_7D", person)).status_code == 409


async def test_a_plan_that_is_too_small_for_the_mandate_does_not_start(service: Service) -> None:
    mandate_id = new_mandate()
    admin = new_admin_of(mandate_id)
    members = [Membership(mandate_id=mandate_id, user_id=f"{mandate_id}-{number}", roles=[]) for number in range(6)]
    await service.publish_directory(mandate_id, [(1, member) for member in members])
    for plan_key in ("TRIAL_7D", "STARTER"):
        refused = await service.start(mandate_id, plan_key, admin)
        assert (refused.status_code, refused.json()["code"]) == (409, "PLAN_TOO_SMALL")
        assert "6 members, 0 feature instances" in refused.json()["detail"]
    assert not await service.fetch("SELECT 1 FROM subscriptions WHERE mandate_id = $1", mandate_id)
    left = [(2, member.model_copy(update={"enabled": False})) for member in members[:3]]
    instances = [
        (1, FeatureInstance(id=f"{mandate_id}-{number}", mandate_id=mandate_id, feature_code="chat"))
        for number in range(4)
    ]
    await service.publish_directory(mandate_id, [*left, *instances])
    refused = await service.start(mandate_id, "TRIAL_7D", admin)
    assert "3 members, 4 feature instances" in refused.json()["detail"]
    gone = instances[0][1].model_copy(update={"enabled": False})
    await service.publish_directory(mandate_id, [(2, gone)])
    assert (await service.start(mandate_id, "TRIAL_7D", admin)).status_code == 200


async def test_an_administrator_learns_how_many_members_the_plan_in_force_allows(service: Service) -> None:
    mandate_id = new_mandate()
    admin = new_admin_of(mandate_id)

    async def limit(caller: Caller) -> httpx.Response:
        return await service.http.get(f"/internal/member-limit/{mandate_id}", headers=service.headers(caller))

    assert (await limit(admin)).json() == {"maxUsers": None}
    await service.start(mandate_id, "TRIAL_7D", admin)
    assert (await limit(admin)).json() == {"maxUsers": 3}
    assert (await limit(new_member_of(mandate_id))).status_code == 403
    service.clock.now += timedelta(days=8)
    await service.advance()
    assert (await limit(admin)).json() == {"maxUsers": None}
