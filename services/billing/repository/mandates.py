"""Terms and settings of mandates."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

import asyncpg
import orjson

from services.billing.domain.money import Markup
from services.billing.domain.periods import Calendar
from services.billing.domain.prices import in_time
from services.billing.domain.terms import Terms
from services.billing.domain.zones import DEFAULT_ZONE, zone_known
from services.billing.repository.unusable import tell_unusable

__all__ = ["USABLE_PERCENT", "calendar_of", "changed_terms", "past_zones_json", "read_calendars", "read_terms"]

# A markup that can be computed with, null for any other: NaN and infinity are larger than every number here.
USABLE_PERCENT = "CASE WHEN {0} >= 0 AND {0} < 1e15 AND scale({0}) <= 24 THEN {0} END"


async def read_terms(
    connection: asyncpg.Connection, numbers: Iterable[int], *, default_markup: Decimal
) -> tuple[dict[int, Terms], int]:
    """The terms of mandates, with the markup in force (the mandate's, else the plan's, else the default), and the
    revision of the price book, in one statement."""
    own, of_plan = USABLE_PERCENT.format("m.markup_percent"), USABLE_PERCENT.format("m.plan_markup_percent")
    rows = await connection.fetch(
        f"SELECT m.no, m.billing_model, coalesce({own}, {of_plan}, $2) AS markup_percent,"
        f" m.markup_percent IS DISTINCT FROM {own} OR m.plan_markup_percent IS DISTINCT FROM {of_plan} AS passed_over,"
        " m.time_zone, m.past_time_zones, m.version,"
        " EXISTS (SELECT 1 FROM uncharged_events u WHERE u.mandate_no = m.no) AS has_uncharged,"
        " b.revision FROM price_book b LEFT JOIN mandates m ON m.no = ANY($1)",
        sorted(set(numbers)),
        default_markup,
    )
    terms = {}
    for no, model, percent, passed_over, zone, past, version, has_uncharged, _ in rows:
        if passed_over:
            tell_unusable("mandates", str(no), f"a markup percent is no usable number, {percent} is taken")
        if no is not None:
            terms[no] = Terms(no, model, Markup.of(percent), calendar_of(no, zone, past), version, has_uncharged)
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
    return {no: calendar_of(no, zone, past) for no, zone, past in rows}


def calendar_of(mandate_no: int, zone: str, past: str) -> Calendar:
    """A calendar out of its columns. A zone that this machine does not know counts as the default one, and a past zone
    that cannot be read as never there: both are told, and neither stops the mandate's charges."""
    known = _known(mandate_no, zone)
    return Calendar(known) if past == "[]" else Calendar(known, tuple(_past_zones(mandate_no, past)))


def _known(mandate_no: int, zone: str) -> str:
    if zone_known(zone):
        return zone
    tell_unusable("mandates", str(mandate_no), f"time_zone: {zone[:80]!r} is not known, {DEFAULT_ZONE} is taken")
    return DEFAULT_ZONE


def _past_zones(mandate_no: int, text: str) -> Iterable[tuple[datetime, str]]:
    parts = orjson.loads(text)
    for part in parts if isinstance(parts, list) else [parts]:
        try:
            until, zone = part
            moment = datetime.fromisoformat(until)
            if not in_time(moment):
                raise ValueError(until)
            yield moment, _known(mandate_no, zone)
        except (TypeError, ValueError) as error:
            tell_unusable("mandates", str(mandate_no), f"past_time_zones: {type(error).__name__}")


def past_zones_json(calendar: Calendar) -> str:
    """The column of the zones that held before."""
    return orjson.dumps([(until.isoformat(), zone) for until, zone in calendar.past]).decode()
