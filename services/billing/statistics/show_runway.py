"""How long the balance of a mandate lasts, by its members and features, and what was unusual."""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from services.billing.mandates.open_mandate import open_mandate
from services.billing.money import money_json
from services.billing.reports.scope import Scope
from services.billing.statistics.daily_costs import (
    Costs,
    MandateFacts,
    Money,
    read_costs,
    read_facts,
    read_member_costs,
    read_money,
)
from services.billing.statistics.domain import StatisticsPeriod
from services.billing.statistics.runway import DAYS_READ, burn_rate, ends_on, unusual_days
from services.billing.statistics.runway_texts import outlook_text, unusual_text
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["show_runway"]


class _Asked(NamedTuple):
    """The day that it is in the mandate, and how the caller is spoken to."""

    today: date
    language: str
    on_credit: bool


async def show_runway(
    database: Database, scope: Scope, mandate_id: str, *, language: str, clock: Clock
) -> dict[str, Any]:
    """The outlook of a mandate, as far as the scope shows it."""
    now = clock()
    async with database.reading() as connection:
        facts = await read_facts(connection, await open_mandate(connection, mandate_id))
        today = facts.calendar.day(now)
        period = StatisticsPeriod("day", today - timedelta(days=DAYS_READ - 1), today)
        whole, features = await read_costs(connection, scope, period)
        members = await read_member_costs(connection, scope, facts.no, period)
        money = await read_money(connection, facts, now=now)
    asked = _Asked(today, language, facts.billing_model == "CREDIT_POSTPAY")
    shows_all = scope.shows_whole(mandate_id)
    return {
        "mandateId": mandate_id,
        "mandateName": facts.name,
        "asOf": now,
        "mandate": _outlook(whole, _together(facts, money), asked) if shows_all else None,
        "members": _by_cost(
            ({"userId": user_id, "userName": name}, costs, money.get(user_id), asked)
            for (user_id, name), costs in members.items()
        ),
        "features": _by_cost(({"featureCode": code}, costs, None, asked) for code, costs in features.items()),
    }


def _together(facts: MandateFacts, money: Mapping[str | None, Money]) -> Money | None:
    """All that the mandate can spend; None where it is nobody's balance."""
    if facts.billing_model == "UNLIMITED":
        return None
    return Money(
        sum(each.balance for each in money.values()),
        next((each.credit_limit for each in money.values()), None),
        tuple(sorted(part for each in money.values() for part in each.expiring)),
    )


def _by_cost(
    given: Iterable[tuple[dict[str, str], Costs, Money | None, _Asked]],
) -> list[dict[str, Any]]:
    """Outlooks with their names, those first that have cost most."""
    ordered = sorted(given, key=lambda each: (-sum(each[1].values()), *each[0].values()))
    return [{**named, **_outlook(costs, money, asked)} for named, costs, money, asked in ordered]


def _outlook(costs: Costs, money: Money | None, asked: _Asked) -> dict[str, Any]:
    burn = burn_rate(costs, asked.today)
    available = None if money is None else money.balance
    if money is not None and asked.on_credit:
        available = None if money.credit_limit is None else money.balance + money.credit_limit
    ends = None
    if available is not None and available <= 0:
        ends = asked.today
    elif available is not None and money is not None and burn is not None and burn.per_day:
        ends = ends_on(
            available,
            burn,
            today=asked.today,
            spent_today=costs.get(asked.today, 0),
            expiring=money.expiring,
        )
    return {
        "balance": None if money is None else money_json(money.balance),
        "burnPerDay": None if burn is None else money_json(burn.per_day),
        "endsOn": None if ends is None else ends.isoformat(),
        "text": outlook_text(
            burn,
            available=available,
            ends=ends,
            today=asked.today,
            on_credit=asked.on_credit,
            language=asked.language,
        ),
        "unusual": [
            {
                "date": each.day.isoformat(),
                "cost": money_json(each.cost),
                "usual": money_json(each.usual),
                "deviations": str(round(Decimal(each.deviations.numerator) / each.deviations.denominator, 1)),
                "text": unusual_text(each, asked.language),
            }
            for each in unusual_days(costs, asked.today)
        ],
    }
