"""Limits of a mandate by what they are about and by period: what was spent in the day or month that the mandate has
now, whichever way it came about, and what is held."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from services.billing.checks.check_funds import CheckFunds, Question
from services.billing.checks.limits import LimitKind, LimitPeriod
from services.billing.checks.release_holds import ReleaseHolds
from services.billing.ledger.domain import BillingModel
from services.billing.mandates.change_settings import change_settings
from services.billing.pricing.repository import Tariffs
from services.billing.settings import BillingSettings
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.events import usage_record, voided_record
from tests.support.ledger import Books
from tests.support.limiting import Limiting
from tests.support.statements import CountedDatabase

# The afternoon of a Monday in Zurich, in the middle of a month.
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
# What the questions and the usage here are for.
NAMED = {"provider": "anthropic", "model": "claude-sonnet-4-5", "feature_instance_id": "chat-1"}
OTHERS = {"provider": "openai", "model": "gpt-5", "feature_instance_id": "chat-2"}
KEYS: dict[LimitKind, str] = {
    "member": "user-1",
    "feature": NAMED["feature_instance_id"],
    "provider": NAMED["provider"],
    "model": NAMED["model"],
}
KINDS = tuple(KEYS)


@pytest.fixture
async def limiting(api: BillingApi, mandate: str, database: Database) -> Limiting:
    """A mandate in which nothing but limits stops anybody; it has no row of another time than the test's own."""
    path, settings = f"/api/billing/admin/settings/{mandate}", {"blockOnZeroBalance": False}
    assert (await api.call(system_admin(), "POST", path, json=settings)).status_code == 200
    return Limiting(database, mandate, NOON)


@pytest.mark.parametrize("period", ["day", "month"])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_spent_in_the_period_counts_whether_before_or_after_the_limit_was_set(
    limiting: Limiting, books: Books, kind: LimitKind, period: LimitPeriod
) -> None:
    yesterday = NOON - timedelta(days=1)
    await limiting.spend("2", **NAMED)
    await limiting.spend("1", at=yesterday, **NAMED)
    await limiting.spend("100", at=NOON - timedelta(days=31), **NAMED)
    await limiting.spend("100", "user-2", **OTHERS)
    await limiting.set((kind, KEYS[kind], period, "10"))
    left = Decimal(8 if period == "day" else 7)
    assert await limiting.check(f"{left}", **NAMED) is None
    assert await limiting.check(f"{left}.000001", **NAMED) == "SUB_LIMIT_EXCEEDED"
    await limiting.spend("3.5", **NAMED)
    await limiting.spend("0.25", at=yesterday, **NAMED)
    await limiting.spend("100", at=NOON - timedelta(days=31), **NAMED)
    await limiting.spend("100", "user-2", **OTHERS)
    left -= Decimal("3.5") if period == "day" else Decimal("3.75")
    assert await limiting.check(f"{left}", **NAMED) is None
    assert await limiting.check(f"{left + Decimal('0.000001')}", **NAMED) == "SUB_LIMIT_EXCEEDED"
    assert await limiting.check("99", "user-2", **OTHERS) is None
    assert await books.failing() == {}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_held_counts_until_it_is_over(
    limiting: Limiting, books: Books, database: Database, kind: LimitKind
) -> None:
    await limiting.set((kind, KEYS[kind], "day", "5"), (kind, KEYS[kind], "month", "9"))
    assert await limiting.hold("50", "user-2", **OTHERS) is None
    assert await limiting.hold("2", ttl_s=100, **NAMED) is None
    assert await limiting.hold("1", ttl_s=3600, **NAMED) is None
    for ask in (limiting.check, limiting.hold):
        assert await ask("2.000001", **NAMED) == "SUB_LIMIT_EXCEEDED"
    assert await limiting.check("2", **NAMED) is None
    limiting.now += timedelta(seconds=99)
    assert await limiting.check("2.000001", **NAMED) == "SUB_LIMIT_EXCEEDED"
    # From its time on, whether or not the job that gives it back has run.
    limiting.now += timedelta(seconds=1)
    assert await limiting.check("4", **NAMED) is None
    assert await limiting.check("4.000001", **NAMED) == "SUB_LIMIT_EXCEEDED"
    while await ReleaseHolds(database, clock=lambda: limiting.now)():
        pass
    assert await limiting.hold("4", **NAMED) is None
    assert await limiting.hold("0", **NAMED) == "SUB_LIMIT_EXCEEDED"
    assert await books.failing() == {}


async def test_who_names_neither_model_nor_feature_instance_passes_their_limits_over(limiting: Limiting) -> None:
    await limiting.set(*((kind, KEYS[kind], "day", "0") for kind in ("feature", "provider", "model")))
    assert await limiting.check("1") is None
    assert await limiting.hold("1") is None
    for name, value in NAMED.items():
        assert await limiting.check("1", **{name: value}) == "SUB_LIMIT_EXCEEDED"
        assert await limiting.hold("0", **{name: value}) == "SUB_LIMIT_EXCEEDED"
        assert await limiting.check("1", **{name: OTHERS[name]}) is None


async def test_a_day_is_the_mandates_and_so_is_a_month(limiting: Limiting) -> None:
    # In Zurich, July begins at ten in the evening of June the 30th in UTC.
    july = datetime(2026, 6, 30, 22, tzinfo=UTC)
    limiting.now = july - timedelta(days=1)
    await limiting.set(("member", "user-1", "day", "5"), ("model", NAMED["model"], "month", "7"))
    await limiting.spend("4", **NAMED)
    limiting.now = july - timedelta(microseconds=1)
    # It is the day that began with the last event.
    assert await limiting.check("1.000001") == "SUB_LIMIT_EXCEEDED"
    await limiting.spend("1", **NAMED)
    assert await limiting.check("0") == "SUB_LIMIT_EXCEEDED"
    assert await limiting.check("2", "user-2", **NAMED) is None
    assert await limiting.check("2.000001", "user-2", **NAMED) == "SUB_LIMIT_EXCEEDED"
    limiting.now = july
    assert await limiting.check("5", **NAMED) is None
    assert await limiting.check("7", "user-2", **NAMED) is None
    assert await limiting.check("7.000001", "user-2", **NAMED) == "SUB_LIMIT_EXCEEDED"
    await limiting.spend("3", **NAMED)
    # Usage of June that comes late counts there, and is no matter of July's.
    await limiting.spend("50", at=july - timedelta(seconds=1), **NAMED)
    assert await limiting.check("4", "user-2", **NAMED) is None
    assert await limiting.check("2.000001", **NAMED) == "SUB_LIMIT_EXCEEDED"


async def test_the_borders_are_those_of_the_time_zone_that_holds_then(limiting: Limiting, database: Database) -> None:
    async def move_to(zone: str) -> None:
        zones = {"timeZone": zone}
        clock, admin = (lambda: limiting.now), system_admin()
        await change_settings(database, limiting.mandate, zones, caller=admin, clock=clock, amount_max=Decimal(1))

    await move_to("America/New_York")
    # Zurich counts until its July has begun, at ten in the evening in UTC.
    limiting.now = datetime(2026, 6, 30, 21, 59, tzinfo=UTC)
    await limiting.set(("member", "user-1", "day", "5"), ("provider", "anthropic", "month", "8"))
    await limiting.spend("4", **NAMED)
    assert await limiting.check("1.000001") == "SUB_LIMIT_EXCEEDED"
    limiting.now = datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert await limiting.check("8", "user-2", **NAMED) is None
    await limiting.spend("3", **NAMED)
    # It is the evening of June the 30th in New York, but the first day of July has begun, and goes on until the 2nd.
    for now in (datetime(2026, 7, 1, 4, tzinfo=UTC), datetime(2026, 7, 2, 3, 59, tzinfo=UTC)):
        limiting.now = now
        assert await limiting.check("2.000001") == "SUB_LIMIT_EXCEEDED"
    limiting.now = datetime(2026, 7, 2, 4, tzinfo=UTC)
    assert await limiting.check("5") is None
    assert await limiting.check("5", "user-2", **NAMED) is None
    assert await limiting.check("5.000001", "user-2", **NAMED) == "SUB_LIMIT_EXCEEDED"


async def test_a_reversal_gives_back_what_the_charge_took(limiting: Limiting, books: Books) -> None:
    await limiting.set(*((kind, key, "month", "10") for kind, key in KEYS.items()))
    first = await limiting.spend("6", at=NOON - timedelta(days=2), **NAMED)
    second = await limiting.spend("4", **NAMED)
    assert await limiting.check("0", **NAMED) == "SUB_LIMIT_EXCEEDED"
    await limiting.take(voided_record(limiting.mandate, first.event_id, at=limiting.now))
    assert await limiting.check("6", **NAMED) is None
    assert await limiting.check("6.000001", **NAMED) == "SUB_LIMIT_EXCEEDED"
    # Charged and taken back in one batch.
    usage = usage_record(limiting.mandate, amount="5", at=limiting.now, **NAMED)
    await limiting.take(usage, *(voided_record(limiting.mandate, each.event_id, at=NOON) for each in (usage, second)))
    assert await limiting.check("10", **NAMED) is None
    assert await books.failing() == {}


@pytest.mark.parametrize("model", ["PREPAY_USER", "UNLIMITED"])
async def test_a_switch_of_the_billing_model_changes_nothing_about_limits(
    limiting: Limiting, api: BillingApi, books: Books, model: BillingModel
) -> None:
    await limiting.set(("member", "user-1", "day", "10"), ("provider", "anthropic", "month", "20"))
    await limiting.spend("3", **NAMED)
    assert await limiting.hold("2", ttl_s=3600, **NAMED) is None
    await api.switch(limiting.mandate, model)
    for switched in range(2):
        assert await limiting.check("5", **NAMED) is None
        assert await limiting.check("5.000001", **NAMED) == "SUB_LIMIT_EXCEEDED"
        assert await limiting.hold("15.000001", "user-2", provider="anthropic") == "SUB_LIMIT_EXCEEDED"
        if not switched:
            await api.switch(limiting.mandate, "PREPAY_MANDATE")
    await api.switch(limiting.mandate, model)
    await limiting.spend("5", **NAMED)
    assert await limiting.hold("0", **NAMED) == "SUB_LIMIT_EXCEEDED"
    assert await books.failing() == {}


async def test_usage_of_strangers_counts_too(limiting: Limiting, books: Books) -> None:
    await limiting.set(("model", NAMED["model"], "day", "10"))
    await limiting.spend("4", "nobody-knows", **NAMED)
    await limiting.spend("1", "user-2", **NAMED)
    assert await limiting.check("5", **NAMED) is None
    assert await limiting.check("5.000001", **NAMED) == "SUB_LIMIT_EXCEEDED"
    # A stranger is refused for being one.
    assert await limiting.check("1", "stranger", **NAMED) == "NOT_A_MEMBER"
    assert await books.failing() == {}


async def test_limits_that_are_set_again_or_taken_away_count_what_was_spent_anew(
    limiting: Limiting, books: Books
) -> None:
    costs = "SELECT count(*) FROM limit_costs c JOIN mandates m ON m.no = c.mandate_no WHERE m.id = $1"
    await limiting.set(("member", "user-1", "day", "10"), ("provider", "anthropic", "day", "1"))
    await limiting.spend("4", **NAMED)
    assert await limiting.check("1", **NAMED) == "SUB_LIMIT_EXCEEDED"
    await limiting.set(("member", "user-1", "day", "10"), ("member", "user-2", "day", "10"))
    assert await limiting.check("6", **NAMED) is None
    assert await limiting.check("6.000001", **NAMED) == "SUB_LIMIT_EXCEEDED"
    await limiting.set()
    await limiting.spend("5", **NAMED)
    assert await limiting.check("100", **NAMED) is None
    assert await books.value(costs, limiting.mandate) == 0
    await limiting.set(("member", "user-1", "month", "10"), ("feature", NAMED["feature_instance_id"], "month", "10"))
    assert await limiting.check("1.000001") == "SUB_LIMIT_EXCEEDED"
    assert await limiting.check("1", "user-2", **NAMED) is None
    assert await limiting.check("1.000001", "user-2", **NAMED) == "SUB_LIMIT_EXCEEDED"
    assert await books.failing() == {}


async def test_only_a_mandate_with_limits_costs_a_second_statement(
    limiting: Limiting, mandate: str, database: Database
) -> None:
    counted = CountedDatabase(database)
    ask = CheckFunds(counted, Tariffs(), BillingSettings.model_construct(), lambda: limiting.now)
    question = Question(mandate, "user-1", Decimal(1), None, **NAMED)
    await ask(question)
    for limits, calls in (((), 1), ((("member", "user-1", "day", "5"), ("model", "other", "day", "5")), 2), ((), 1)):
        await limiting.set(*limits)
        counted.calls.clear()
        await ask(question)
        assert counted.calls == ["fetch"] * calls
