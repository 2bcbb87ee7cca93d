"""The locks of mandates, their settings and terms, and the marks of opening credit."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.calendars import DEFAULT_ZONE, Calendar, zone_known
from services.billing.ledger.domain import BillingModel
from services.billing.mandates.domain import Terms
from services.billing.money import Markup
from services.billing.pricing import in_time
from services.billing.tables import accounts, directory_members, mandates
from services.billing.unusable import report_unusable
from services.chassis.database import driver_connection
from services.chassis.statements import one_of

__all__ = [
    "USABLE_PERCENT",
    "LockedMandate",
    "calendar_of",
    "lock_mandate",
    "lock_mandates",
    "lock_pricing_versions",
    "lock_settings",
    "mark_cancellations",
    "mark_opening_credits",
    "mark_unposted",
    "past_zones_json",
    "read_terms",
    "wait_for_holders",
    "write_settings",
    "write_terms",
]

# The markup, or null where it cannot be used: in PostgreSQL, NaN and infinity are larger than every number.
USABLE_PERCENT = "CASE WHEN {0} >= 0 AND {0} < 1e15 AND scale({0}) <= 24 THEN {0} END"
# Mandates that `wait_for_holders` locks together, for the moment that it takes to see that nobody else has.
_LOOKED_AT_ONCE = 1_000
# With every change of what charges are priced by.
_PRICED_ANEW: Mapping[str, Any] = {"pricing_version": mandates.c.pricing_version + 1}


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


class OpeningCredit(NamedTuple):
    """The opening credit of a member's account, in micro-CHF; it can be nothing."""

    account_no: int
    mandate_no: int
    amount: int


async def lock_mandates(connection: AsyncConnection, numbers: Iterable[int]) -> dict[int, LockedMandate]:
    """Locks mandates in the order of their numbers, so that no two transactions deadlock.

    Every transaction that moves money, makes members' accounts or switches the model takes this lock first and decides
    under it; it is the lock of all accounts of the mandate too. It is one mode for all: a shared lock would let charges
    that follow each other closely keep a switch waiting for ever, and charges of one mandate meet at its pool account
    anyway.
    """
    columns = mandates.c
    read = sa.select(columns.no, columns.id, columns.billing_model, columns.time_zone, columns.past_time_zones)
    given = one_of(columns.no, sorted(set(numbers)))
    rows = await connection.execute(read.where(given).order_by(columns.no).with_for_update(key_share=True))
    return {row.no: LockedMandate(*row) for row in rows}


async def lock_pricing_versions(
    connection: AsyncConnection, numbers: Iterable[int], *, wait: bool = True
) -> dict[int, int]:
    """Locks mandates as `lock_mandates` does and returns their pricing versions, by which a charge checks that the
    terms it has read still hold. Without `wait`, mandates that somebody else has locked are left out."""
    driver = driver_connection(connection)
    rows = await driver.fetch(
        "SELECT m.no, m.pricing_version FROM unnest($1::int[]) AS given (no) JOIN mandates m ON m.no = given.no"
        f" ORDER BY m.no FOR NO KEY UPDATE OF m{'' if wait else ' SKIP LOCKED'}",
        sorted(set(numbers)),
    )
    return {row["no"]: row["pricing_version"] for row in rows}


async def wait_for_holders(connection: AsyncConnection, numbers: Sequence[int]) -> None:
    """Waits until whoever has locked one of these mandates by now is done, so that what they write is seen from then
    on. Keeps no lock, and waits for one mandate at a time, so that nobody waits here for a mandate that nobody holds.
    """
    driver = driver_connection(connection)

    async def locked(some: Sequence[int], *, wait: bool) -> dict[int, int]:
        look = driver.transaction()
        await look.start()
        try:
            return await lock_pricing_versions(connection, some, wait=wait)
        finally:
            await look.rollback()

    for start in range(0, len(numbers), _LOOKED_AT_ONCE):
        some = numbers[start : start + _LOOKED_AT_ONCE]
        free = await locked(some, wait=False)
        for number in some:
            if number not in free:
                await locked([number], wait=True)


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
        " m.time_zone, m.past_time_zones, m.pricing_version, m.has_unposted, m.has_cancellations, m.late_events,"
        " m.late_event_days, b.revision FROM price_book b LEFT JOIN mandates m ON m.no = ANY($1)",
        sorted(set(numbers)),
        default_markup,
    )
    terms = {}
    for no, model, percent, passed_over, zone, past, *others, _ in rows:
        if passed_over:
            report_unusable("mandates", str(no), f"a markup percent is no usable number, {percent} is taken")
        if no is not None:
            calendar = calendar_of(no, zone, past)
            markup = Markup.of(percent)
            terms[no] = Terms(no, model, markup, calendar, *others)
    return terms, rows[0]["revision"]


async def mark_unposted(connection: AsyncConnection, numbers: Iterable[int]) -> None:
    """Notes that usage of these mandates was claimed without a posting; the pricing version grows, so concurrent
    charges read the terms again."""
    unmarked = sa.and_(one_of(mandates.c.no, sorted(set(numbers))), ~mandates.c.has_unposted)
    await connection.execute(sa.update(mandates).where(unmarked).values(has_unposted=True, **_PRICED_ANEW))


async def mark_cancellations(connection: AsyncConnection, numbers: Iterable[int]) -> None:
    """Notes that usage of these mandates was cancelled, and that events were claimed by that; concurrent charges read
    the terms again, as with `mark_unposted`."""
    unmarked = sa.and_(one_of(mandates.c.no, sorted(set(numbers))), ~mandates.c.has_cancellations)
    marks = {"has_unposted": True, "has_cancellations": True}
    await connection.execute(sa.update(mandates).where(unmarked).values(**marks, **_PRICED_ANEW))


async def lock_settings(connection: AsyncConnection, number: int) -> sa.RowMapping:
    """The mandate's row with its settings, which nobody else changes until the transaction ends."""
    read = sa.select(mandates).where(mandates.c.no == number).with_for_update()
    return (await connection.execute(read)).mappings().one()


async def write_settings(
    connection: AsyncConnection, number: int, values: Mapping[str, Any], *, priced_anew: bool
) -> None:
    """Sets columns of settings; `priced_anew` says that charges are priced by one of them."""
    change = sa.update(mandates).where(mandates.c.no == number).values(**values)
    await connection.execute(change.values(**_PRICED_ANEW) if priced_anew else change)


async def write_terms(
    connection: AsyncConnection, number: int, pool_no: int, *, markup_percent: Decimal | None, credit_limit: int | None
) -> sa.RowMapping:
    """Replaces markup and credit limit (micro-CHF) of a mandate, and gives the row of both as they were."""
    of_pool = sa.and_(accounts.c.mandate_no == mandates.c.no, accounts.c.no == pool_no)
    read = sa.select(mandates.c.markup_percent, accounts.c.credit_limit).select_from(mandates.join(accounts, of_pool))
    before = (await connection.execute(read.where(mandates.c.no == number).with_for_update())).mappings().one()
    await write_settings(connection, number, {"markup_percent": markup_percent}, priced_anew=True)
    await connection.execute(
        sa.update(accounts)
        .where(accounts.c.mandate_no == number, accounts.c.no == pool_no)
        .values(credit_limit=credit_limit)
    )
    return before


async def mark_opening_credits(
    connection: AsyncConnection, numbers: Iterable[int], *, now: datetime
) -> list[OpeningCredit]:
    """Marks, in these mandates, every enabled member's account that stands in PREPAY_USER and never had its opening
    credit, and gives what was marked, by account."""
    members = directory_members.c
    due = sa.and_(
        one_of(accounts.c.mandate_no, sorted(set(numbers))),
        accounts.c.type == "USER",
        accounts.c.opening_credit_at.is_(None),
        mandates.c.no == accounts.c.mandate_no,
        mandates.c.billing_model == "PREPAY_USER",
        members.mandate_id == mandates.c.id,
        members.user_id == accounts.c.user_id,
        members.enabled,
    )
    mark = sa.update(accounts).where(due).values(opening_credit_at=now, opening_credit=mandates.c.default_user_credit)
    marked = mark.returning(accounts.c.no, accounts.c.mandate_no, accounts.c.opening_credit)
    return sorted(OpeningCredit(*row) for row in await connection.execute(marked))


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
