"""Terms and settings of mandates."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import asyncpg
import orjson

from services.billing.domain.ledger import BillingModel
from services.billing.domain.money import Markup
from services.billing.domain.periods import Calendar
from services.billing.domain.terms import Terms

__all__ = [
    "LockedMandate",
    "calendar_of",
    "lock_mandate",
    "lock_mandates",
    "mark_uncharged",
    "past_zones_json",
    "read_terms",
]


class LockedMandate(NamedTuple):
    """A mandate under its row lock: until this transaction ends its billing model stands, no account is made in it, and
    nobody else moves its money."""

    no: int
    id: str
    billing_model: BillingModel
    version: int
    time_zone: str
    past_time_zones: str

    @property
    def calendar(self) -> Calendar:
        """Its time zones."""
        return calendar_of(self.time_zone, self.past_time_zones)


async def lock_mandates(connection: asyncpg.Connection, numbers: Iterable[int]) -> dict[int, LockedMandate]:
    """Locks mandates in the order of their numbers, so that no two transactions deadlock.

    Whoever moves money, makes accounts of members or switches the model takes this lock first, decides under it, and
    locks accounts after it. It is one mode for all: a shared lock would let charges that follow each other closely
    keep a switch waiting for ever, and charges of one mandate wait for each other at its pool account anyway.
    """
    rows = await connection.fetch(
        "SELECT m.no, m.id, m.billing_model, m.version, m.time_zone, m.past_time_zones"
        " FROM unnest($1::int[]) AS given (no) JOIN mandates m ON m.no = given.no"
        " ORDER BY m.no FOR NO KEY UPDATE OF m",
        sorted(set(numbers)),
    )
    return {row["no"]: LockedMandate(*row) for row in rows}


async def lock_mandate(connection: asyncpg.Connection, number: int) -> LockedMandate:
    """Locks one mandate."""
    return (await lock_mandates(connection, [number]))[number]


async def read_terms(
    connection: asyncpg.Connection, numbers: Iterable[int], *, default_markup: Decimal
) -> tuple[dict[int, Terms], int]:
    """The terms of mandates, with the markup in force (the mandate's, else the plan's, else the default), and the
    revision of the price book, in one statement."""
    rows = await connection.fetch(
        "SELECT m.no, m.billing_model, coalesce(m.markup_percent, m.plan_markup_percent, $2) AS markup_percent,"
        " m.time_zone, m.past_time_zones, m.version, m.has_uncharged,"
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


async def mark_uncharged(connection: asyncpg.Connection, numbers: Iterable[int]) -> None:
    """Says that usage of these mandates was claimed without a charge. Whoever has read their terms reads them again."""
    await connection.execute(
        "UPDATE mandates SET has_uncharged = true, version = version + 1 WHERE no = ANY($1) AND NOT has_uncharged",
        sorted(set(numbers)),
    )


def calendar_of(zone: str, past: str) -> Calendar:
    """A calendar out of its columns."""
    if past == "[]":
        return Calendar(zone)
    return Calendar(zone, tuple((datetime.fromisoformat(until), name) for until, name in orjson.loads(past)))


def past_zones_json(calendar: Calendar) -> str:
    """The column of the zones that held before."""
    return orjson.dumps([(until.isoformat(), zone) for until, zone in calendar.past]).decode()
