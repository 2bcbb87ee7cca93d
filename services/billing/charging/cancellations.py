"""Which usage is cancelled, what it was charged, and whether it waits for a price. Callers hold the mandates' locks."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from asyncpg.exceptions import LockNotAvailableError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.domain import Spent
from services.billing.ledger.spending import read_grants_text
from services.billing.pricing.unposted import waiting
from services.billing.tables import (
    accounts,
    cancellations,
    directory_members,
    mandates,
    price_corrections,
    transactions,
    unposted_events,
)
from services.chassis.database import Contended
from services.chassis.statements import one_of

__all__ = [
    "Cancellation",
    "EventKey",
    "given_events",
    "insert_cancellations",
    "read_cancellations",
    "read_charges",
    "read_receivers",
    "read_spent",
    "unpark",
]

# A usage event: its mandate's number and its id.
EventKey = tuple[int, UUID]


class Cancellation(NamedTuple):
    """That a usage event is cancelled: why, and by which system administrator, if by one."""

    mandate_no: int
    event_id: UUID
    reason: str
    cancelled_by_user_id: str | None = None

    @property
    def key(self) -> EventKey:
        """The usage event."""
        return self.mandate_no, self.event_id


def given_events(keys: Collection[EventKey]) -> sa.TableValuedAlias:
    """Usage events as rows (mandate_no, event_id) of a statement: two parameters, however many there are."""
    numbers = sa.literal([number for number, _ in keys], sa.ARRAY(sa.Integer))
    event_ids = sa.literal([event_id for _, event_id in keys], sa.ARRAY(sa.Uuid))
    return sa.func.unnest(numbers, event_ids).table_valued("mandate_no", "event_id").render_derived(name="given")


def _named(table: sa.Table, given: sa.TableValuedAlias) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.mandate_no == given.c.mandate_no, table.c.event_id == given.c.event_id)


async def read_cancellations(connection: AsyncConnection, keys: Collection[EventKey]) -> dict[EventKey, Cancellation]:
    """The cancellations of these usage events, of those that have one."""
    if not keys:
        return {}
    given, columns = given_events(keys), cancellations.c
    read = sa.select(columns.mandate_no, columns.event_id, columns.reason, columns.cancelled_by_user_id)
    rows = await connection.execute(read.select_from(given.join(cancellations, _named(cancellations, given))))
    found = [Cancellation(*row) for row in rows]
    return {each.key: each for each in found}


async def insert_cancellations(connection: AsyncConnection, cancelled: Sequence[Cancellation], now: datetime) -> None:
    """Keeps cancellations for good; raises `UniqueViolationError` for usage that is cancelled already."""
    if cancelled:
        rows = [{**each._asdict(), "cancelled_at": now} for each in cancelled]
        await connection.execute(sa.insert(cancellations), rows)


async def read_charges(connection: AsyncConnection, keys: Collection[EventKey]) -> Sequence[sa.RowMapping]:
    """The charges of these usage events, of those that were charged, with the type of the account that paid; in the
    order in which they are given."""
    if not keys:
        return []
    given, columns = given_events(keys), transactions.c
    of_usage = sa.and_(_named(transactions, given), ~columns.own)
    posted = sa.and_(accounts.c.mandate_no == columns.mandate_no, accounts.c.no == columns.posted_account_no)
    read = sa.select(
        columns.mandate_no,
        columns.event_id,
        columns.member_account_no,
        columns.posted_account_no,
        columns.seq,
        columns.reference_type,
        columns.occurred_at,
        columns.period_day,
        columns.dimension_no,
        columns.workflow_id,
        accounts.c.type.label("account_type"),
    ).select_from(given.join(transactions, of_usage).join(accounts, posted))
    place = {key: number for number, key in enumerate(keys)}
    rows = (await connection.execute(read)).mappings()
    return sorted(rows, key=lambda row: place[row["mandate_no"], row["event_id"]])


async def read_spent(connection: AsyncConnection, keys: Collection[EventKey]) -> dict[EventKey, Spent]:
    """What the charges of these usage events were paid from, corrections of the price included: what a correction gave
    back is paid from no grant any more, also where it covered a debt of others at once."""
    if not keys:
        return {}
    given, columns, named = given_events(keys), transactions.c, price_corrections.c
    charges = sa.select(columns.mandate_no, columns.event_id, columns.amount, columns.grants).select_from(
        given.join(transactions, sa.and_(_named(transactions, given), ~columns.own))
    )
    its_row = sa.and_(columns.mandate_no == named.mandate_no, columns.event_id == named.correction_id, columns.own)
    corrected = sa.select(named.mandate_no, named.event_id, -columns.amount, columns.grants).select_from(
        given.join(price_corrections, _named(price_corrections, given)).join(transactions, its_row)
    )
    found: dict[EventKey, Spent] = {}
    for mandate_no, event_id, amount, text in await connection.execute(sa.union_all(charges, corrected)):
        before = found.get((mandate_no, event_id), Spent(0, {}))
        grants = dict(before.grants)
        for no, change in read_grants_text(text):
            if (change < 0) == (amount > 0):
                grants[no] = grants.get(no, 0) - change
        paid = before.paid + amount + sum(before.grants.values()) - sum(grants.values())
        found[mandate_no, event_id] = Spent(paid, grants)
    return found


async def unpark(connection: AsyncConnection, keys: Collection[EventKey]) -> None:
    """Takes usage out of the parking place for good; its id stays claimed, so it is never priced.

    Raises `Contended` where the job that prices parked usage has one of them in hand. It locks them before their
    mandates, so it is not waited for: the work begins again, and finds what became of them.
    """
    if not keys:
        return
    given, columns = given_events(keys), unposted_events.c
    parked = sa.and_(_named(unposted_events, given), ~columns.own, waiting(unposted_events))
    lock = sa.select(columns.mandate_no, columns.event_id).select_from(given.join(unposted_events, parked))
    try:
        found = (await connection.execute(lock.with_for_update(of=unposted_events, nowait=True))).all()
    except LockNotAvailableError as error:
        raise Contended("parked usage is being priced") from error
    if found:
        taken = given_events([(row.mandate_no, row.event_id) for row in found])
        settle = sa.update(unposted_events).where(_named(unposted_events, taken), ~columns.own)
        await connection.execute(settle.values(reason="CANCELLED", detail="", currency=None, event=None))


async def read_receivers(connection: AsyncConnection, numbers: Collection[int]) -> Sequence[sa.RowMapping]:
    """Where a switch of the billing model moves money to: pools and enabled members' accounts, in the order of their
    numbers."""
    columns, members = accounts.c, directory_members.c
    member = sa.and_(members.mandate_id == mandates.c.id, members.user_id == columns.user_id, members.enabled)
    owned = accounts.join(mandates, mandates.c.no == columns.mandate_no).outerjoin(directory_members, member)
    wanted = sa.or_(columns.type == "MANDATE", sa.and_(columns.type == "USER", members.user_id.is_not(None)))
    read = sa.select(columns.mandate_no, columns.no, columns.type).select_from(owned)
    of_mandates = one_of(columns.mandate_no, sorted(numbers))
    return (await connection.execute(read.where(of_mandates, wanted).order_by(columns.no))).mappings().all()
