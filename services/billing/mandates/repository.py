"""The locks of mandates, and their terms."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import BillingModel
from services.billing.mandates.domain import Terms
from services.billing.money import Markup
from services.billing.pricing import in_time
from services.billing.unusable import report_unusable
from services.billing.zones import DEFAULT_ZONE, zone_known
from services.chassis.database import driver_connection

__all__ = [
    "USABLE_PERCENT",
    "LockedMandate",
    "calendar_of",
    "lock_mandate",
    "lock_mandates",
    "lock_pricing_versions",
    "mark_unposted",
    "past_zones_json",
    "read_terms",
]

# The markup, or null where it cannot be used: in PostgreSQL, NaN and infinity are larger than every number.
USABLE_PERCENT = "CASE WHEN {0} >= 0 AND {0} < 1e15 AND scale({0}) <= 24 THEN {0} END"


class LockedMandate(NamedTuple):
    """A mandate under its row lock: until this transaction ends its billing model stands, no account is made in it, and
    nobody else moves its money."""

    no: int
    id: str
    billing_model: BillingModel
    time_zone: str
    past_time_zones: Any

    @property
    def calendar(self) -> Calendar:
        """The mandate's calendar."""
        return calendar_of(self.no, self.time_zone, self.past_time_zones)


async def lock_mandates(connection: AsyncConnection, numbers: Iterable[int]) -> dict[int, LockedMandate]:
    """Locks mandates in the order of their numbers, so that no two transactions deadlock.

    Every transaction that moves money, makes members' accounts or switches the model takes this lock first and decides
    under it; it is the lock of all accounts of the mandate too. It is one mode for all: a shared lock would let charges
    that follow each other closely keep a switch waiting for ever, and charges of one mandate meet at its pool account
    anyway.
    """
    driver = driver_connection(connection)
    rows = await driver.fetch(
        "SELECT m.no, m.id, m.billing_model, m.time_zone, m.past_time_zones"
        " FROM unnest($1::int[]) AS given (no) JOIN mandates m ON m.no = given.no"
        " ORDER BY m.no FOR NO KEY UPDATE OF m",
        sorted(set(numbers)),
    )
    return {row["no"]: LockedMandate(*row) for row in rows}


async def lock_pricing_versions(connection: AsyncConnection, numbers: Iterable[int]) -> dict[int, int]:
    """Locks mandates as `lock_mandates` does and returns their pricing versions, by which a charge checks that the
    terms it has read still hold."""
    driver = driver_connection(connection)
    rows = await driver.fetch(
        "SELECT m.no, m.pricing_version FROM unnest($1::int[]) AS given (no) JOIN mandates m ON m.no = given.no"
        " ORDER BY m.no FOR NO KEY UPDATE OF m",
        sorted(set(numbers)),
    )
    return {row["no"]: row["pricing_version"] for row in rows}


async def lock_mandate(connection: AsyncConnection, number: int) -> LockedMandate:
    """Locks one mandate, as `lock_mandates` does."""
    return (await lock_mandates(connection, [number]))[number]


async def read_terms(
    connection: AsyncConnection, numbers: Iterable[int], *, default_markup: Decimal
) -> tuple[dict[int, Terms], int]:
    """The terms of mandates, with the markup in force (the mandate's, else the plan's, else the default), and the
    revision of the price book, in one statement."""
    driver = driver_connection(connection)
    own, of_plan = USABLE_PERCENT.format("m.markup_percent"), USABLE_PERCENT.format("m.plan_markup_percent")
    rows = await driver.fetch(
        f"SELECT m.no, m.billing_model, coalesce({own}, {of_plan}, $2) AS markup_percent,"
        f" m.markup_percent IS DISTINCT FROM {own} OR m.plan_markup_percent IS DISTINCT FROM {of_plan} AS passed_over,"
        " m.time_zone, m.past_time_zones, m.pricing_version, m.has_unposted,"
        " b.revision FROM price_book b LEFT JOIN mandates m ON m.no = ANY($1)",
        sorted(set(numbers)),
        default_markup,
    )
    terms = {}
    for no, model, percent, passed_over, zone, past, pricing_version, has_unposted, _ in rows:
        if passed_over:
            report_unusable("mandates", str(no), f"a markup percent is no usable number, {percent} is taken")
        if no is not None:
            calendar = calendar_of(no, zone, past)
            terms[no] = Terms(no, model, Markup.of(percent), calendar, pricing_version, has_unposted)
    return terms, rows[0]["revision"]


async def mark_unposted(connection: AsyncConnection, numbers: Iterable[int]) -> None:
    """Notes that usage of these mandates was claimed without a posting; the pricing version grows, so concurrent
    charges read the terms again."""
    driver = driver_connection(connection)
    await driver.execute(
        "UPDATE mandates SET has_unposted = true, pricing_version = pricing_version + 1"
        " WHERE no = ANY($1) AND NOT has_unposted",
        sorted(set(numbers)),
    )


def calendar_of(mandate_no: int, zone: str, past: Any) -> Calendar:
    """The calendar stored in these columns. A zone that this machine does not know counts as the default one, a past
    zone that cannot be read is left out: both are reported, and neither stops the mandate's charges."""
    known = _known(mandate_no, zone)
    return Calendar(known) if past == [] else Calendar(known, tuple(_past_zones(mandate_no, past)))


def _known(mandate_no: int, zone: str) -> str:
    if zone_known(zone):
        return zone
    report_unusable("mandates", str(mandate_no), f"time_zone: {zone[:80]!r} is not known, {DEFAULT_ZONE} is taken")
    return DEFAULT_ZONE


def _past_zones(mandate_no: int, past: Any) -> Iterable[tuple[datetime, str]]:
    for part in past if isinstance(past, list) else [past]:
        try:
            until, zone = part
            moment = datetime.fromisoformat(until)
            if not in_time(moment):
                raise ValueError(until)
            yield moment, _known(mandate_no, zone)
        except (TypeError, ValueError) as error:
            report_unusable("mandates", str(mandate_no), f"past_time_zones: {type(error).__name__}")


def past_zones_json(calendar: Calendar) -> list[list[str]]:
    """The value of the column `past_zones`."""
    return [[until.isoformat(), zone] for until, zone in calendar.past]
