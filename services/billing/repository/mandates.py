"""Terms and settings of mandates."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

import asyncpg
import orjson

from services.billing.domain.money import Markup
from services.billing.domain.periods import Calendar
from services.billing.domain.terms import Terms

__all__ = ["calendar_of", "changed_terms", "past_zones_json", "read_calendars", "read_terms"]


async def read_terms(
    connection: asyncpg.Connection, numbers: Iterable[int], *, default_markup: Decimal
) -> tuple[dict[int, Terms], int]:
    """The terms of mandates, with the markup in force (the mandate's, else the plan's, else the default), and the
    revision of the price book, in one statement."""
    rows = await connection.fetch(
        "SELECT m.no, m.billing_model, coalesce(m.markup_percent, m.plan_markup_percent, $2) AS markup_percent,"
        " m.time_zone, m.past_time_zones, m.version,"
        " EXISTS (SELECT 1 FROM uncharged_events u WHERE u.mandate_no = m.no) AS has_uncharged,"
        " b.revision FROM price_book b LEFT JOIN mandates m ON m.no = ANY($1)",
        sorted(set(numbers)),
        default_markup,
    )
    terms = {
        no: Terms(no, model, Markup.of(percent), calendar_of(zone, past), version, has_uncharged)
        for no, model, percent, zone, past, version, has_uncharged, _ in rows
        if no is not None
    }
    return terms, rows[0]["revision"]


async def changed_terms(connection: asyncpg.Connection, terms: Sequence[Terms]) -> bool:
    """Whether a mandate's settings have changed since they were read; asked under the locks of its accounts."""
    changed: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT 1 FROM unnest($1::int[], $2::bigint[]) AS given (no, version)"
        " JOIN mandates m ON m.no = given.no WHERE m.version <> given.version)",
        [term.mandate_no for term in terms],
        [term.version for term in terms],
    )
    return changed


async def read_calendars(connection: asyncpg.Connection, numbers: Iterable[int]) -> dict[int, Calendar]:
    """The calendars of mandates."""
    rows = await connection.fetch(
        "SELECT no, time_zone, past_time_zones FROM mandates WHERE no = ANY($1)", sorted(set(numbers))
    )
    return {no: calendar_of(zone, past) for no, zone, past in rows}


def calendar_of(zone: str, past: str) -> Calendar:
    """A calendar out of its columns."""
    if past == "[]":
        return Calendar(zone)
    return Calendar(zone, tuple((datetime.fromisoformat(until), name) for until, name in orjson.loads(past)))


def past_zones_json(calendar: Calendar) -> str:
    """The column of the zones that held before."""
    return orjson.dumps([(until.isoformat(), zone) for until, zone in calendar.past]).decode()
