"""What happens by the clock alone: trials end, free plans renew, missed periods are caught up with."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid5

import asyncpg
import pytest
import sqlalchemy as sa

from rappen_contracts.directory.v1 import Mandate
from services.subscriptions.lifecycle.advance_due import AdvanceDue
from services.subscriptions.plans.catalogue import Catalogue
from tests.integration.subscriptions.harness import BEGINNING, Service, changed, new_admin_of, new_member_of
from tests.support.callers import system_admin
from tests.support.events import new_mandate

SECOND = timedelta(seconds=1)
WEEK = timedelta(days=7)


async def internal(service: Service) -> str:
    """A mandate on the internal plan since the beginning."""
    mandate_id = new_mandate()
    await service.publish_directory(mandate_id, [(1, Mandate(id=mandate_id))])
    assert (await service.start(mandate_id, "INTERNAL", system_admin())).status_code == 200
    return mandate_id


async def test_a_trial_expires_when_its_time_is_over_and_not_before(service: Service) -> None:
    mandate_id = new_mandate()
    await service.start(mandate_id, "TRIAL_7D", new_admin_of(mandate_id))
    service.clock.now = BEGINNING + WEEK - SECOND
    await service.advance()
    assert (await service.get(mandate_id, new_member_of(mandate_id))).json()["status"] == "TRIALING"

    service.clock.now = BEGINNING + WEEK + timedelta(hours=1)
    await service.advance()
    shown = (await service.get(mandate_id, new_member_of(mandate_id))).json()
    assert (shown["status"], shown["recurring"]) == ("EXPIRED", False)
    _, ended = await service.billing.events(mandate_id, 2)
    data = changed(ended)
    assert (data.from_state, data.to_state, data.operative, data.budget_due) == ("TRIALING", "EXPIRED", False, False)
    # It ended when its time was over, however late that was noticed.
    assert ended.time == data.period_end == BEGINNING + WEEK
    assert data.cause == "clock"
    (row,) = await service.fetch(
        "SELECT name, actor, occurred_at, recorded_at FROM transitions WHERE subscription_id = $1 AND version = 2",
        data.subscription_id,
    )
    assert tuple(row) == ("trial_ended", None, BEGINNING + WEEK, service.clock.now)


async def test_missed_periods_begin_one_by_one_each_with_its_budget(service: Service) -> None:
    mandate_id = await internal(service)
    service.clock.now = datetime(2026, 5, 1, tzinfo=UTC)
    await service.advance()
    events = await service.billing.events(mandate_id, 4)
    told = [changed(event) for event in events]
    assert [(data.version, data.from_state, data.to_state) for data in told] == [
        (1, None, "ACTIVE"),
        (2, "ACTIVE", "ACTIVE"),
        (3, "ACTIVE", "ACTIVE"),
        (4, "ACTIVE", "ACTIVE"),
    ]
    assert all(data.budget_due and data.operative for data in told)
    assert [f"{data.period_start:%m-%d} {data.period_end:%m-%d}" for data in told] == [
        "01-31 02-28",
        "02-28 03-31",
        "03-31 04-30",
        "04-30 05-31",
    ]
    assert [event.time for event in events] == [data.period_start for data in told]
    assert [event.id for event in events] == [uuid5(told[0].subscription_id, str(n)) for n in range(1, 5)]
    names = await service.fetch(
        "SELECT name FROM transitions WHERE subscription_id = $1 ORDER BY version", told[0].subscription_id
    )
    assert [row["name"] for row in names] == ["activated", "renewed", "renewed", "renewed"]


async def test_workers_at_once_renew_each_period_once(service: Service) -> None:
    mandates = [await internal(service) for _ in range(8)]
    service.clock.now = datetime(2026, 4, 1, tzinfo=UTC)
    await asyncio.gather(*(service.advance() for _ in range(6)))
    for mandate_id in mandates:
        told = [changed(event) for event in await service.billing.events(mandate_id, 3)]
        assert [data.version for data in told] == [1, 2, 3]
        (row,) = await service.fetch("SELECT version, due_at FROM subscriptions WHERE mandate_id = $1", mandate_id)
        assert tuple(row) == (3, datetime(2026, 4, 30, 12, tzinfo=UTC))


async def test_what_another_worker_holds_is_left_to_it(service: Service) -> None:
    await service.advance()
    mandate_id = await internal(service)
    service.clock.now = datetime(2026, 3, 1, tzinfo=UTC)
    async with service.database.transaction() as other:
        held = sa.text("SELECT 1 FROM subscriptions WHERE mandate_id = :mandate_id FOR UPDATE")
        await other.execute(held, {"mandate_id": mandate_id})
        async with asyncio.timeout(60):
            await service.advance()
        (row,) = await service.fetch("SELECT version FROM subscriptions WHERE mandate_id = $1", mandate_id)
        assert row["version"] == 1
    await service.advance()
    (row,) = await service.fetch("SELECT version FROM subscriptions WHERE mandate_id = $1", mandate_id)
    assert row["version"] == 2


async def test_a_changed_catalogue_changes_the_next_period_and_not_the_running_one(service: Service) -> None:
    mandate_id = await internal(service)
    kept = service.catalogue.plan("INTERNAL")
    dearer = AdvanceDue(service.database, Catalogue([replace(kept, budget_ai=Decimal(7))]), clock=service.clock)
    await dearer()
    (row,) = await service.fetch("SELECT terms::text FROM subscriptions WHERE mandate_id = $1", mandate_id)
    assert json.loads(row["terms"])["budgetAiCHF"] == "100.000000"
    service.clock.now = datetime(2026, 3, 1, tzinfo=UTC)
    while await dearer():
        pass
    told = [changed(event) for event in await service.billing.events(mandate_id, 2)]
    assert [data.plan.budget.amount for data in told] == [Decimal(100), Decimal(7)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE transitions SET cause = 'other'",
        "DELETE FROM transitions",
        "TRUNCATE transitions",
        "UPDATE trials SET user_id = NULL",
        "DELETE FROM trials",
        "DELETE FROM subscriptions",
    ],
)
async def test_the_application_role_cannot_change_or_remove_what_happened(service: Service, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.fetch(statement)


async def test_a_change_without_its_record_and_event_is_not_kept(service: Service) -> None:
    mandate_id = await internal(service)
    (row,) = await service.fetch("SELECT id FROM subscriptions WHERE mandate_id = $1", mandate_id)
    identity: UUID = row["id"]
    # A record of version 2 is there already, so the renewal's own cannot be written.
    await service.fetch(
        "INSERT INTO transitions SELECT subscription_id, 2, name, from_state, to_state, cause, actor, occurred_at,"
        " recorded_at FROM transitions WHERE subscription_id = $1",
        identity,
    )
    service.clock.now = datetime(2026, 3, 1, tzinfo=UTC)
    await service.advance()
    (row,) = await service.fetch("SELECT version, period_start, due_at FROM subscriptions WHERE id = $1", identity)
    assert tuple(row) == (1, BEGINNING, service.clock.now + timedelta(hours=1))
    # Out of the way of the other tests: nothing is due with it any more.
    await service.fetch("UPDATE subscriptions SET due_at = NULL WHERE id = $1", identity)


async def test_a_subscription_whose_stored_terms_cannot_be_read_is_left_alone_and_the_others_go_on(
    service: Service,
) -> None:
    broken, other = await internal(service), await internal(service)
    await service.fetch("UPDATE subscriptions SET terms = '{}' WHERE mandate_id = $1", broken)
    service.clock.now = datetime(2026, 3, 1, tzinfo=UTC)
    for _ in range(6):
        await service.advance()
    assert len(await service.billing.events(other, 2)) == 2
    (row,) = await service.fetch("SELECT version, due_at FROM subscriptions WHERE mandate_id = $1", broken)
    assert (row["version"], row["due_at"]) == (1, service.clock.now + timedelta(hours=1))
