"""Reads of the charges that a re-rating looks at: mandate by mandate, a page at a time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.correct_prices import Charge
from services.billing.tables import accounts, dimensions, mandates, price_corrections, transactions

__all__ = ["Marks", "PageRow", "Position", "Selection", "next_mandate", "read_marks", "read_page"]


class Selection(NamedTuple):
    """Usage of [from, to), of a provider and model where they are named, exactly as reported."""

    from_time: datetime
    to_time: datetime
    provider: str | None = None
    model: str | None = None

    def of_dimension(self) -> sa.ColumnElement[bool]:
        """Whether a dimension is of the provider and model."""
        named = {"provider": self.provider, "model": self.model}
        return sa.and_(sa.true(), *(dimensions.c[name] == value for name, value in named.items() if value is not None))

    def of_time(self) -> sa.ColumnElement[bool]:
        """Whether a row's time is in it."""
        return sa.and_(transactions.c.occurred_at >= self.from_time, transactions.c.occurred_at < self.to_time)


class Position(NamedTuple):
    """Up to where charges were looked at: all of the mandates before, and of this one those up to a time and event."""

    mandate_no: int = 0
    occurred_at: datetime | None = None
    event_id: UUID | None = None


class Marks(NamedTuple):
    """Whether a mandate has cancelled usage or corrected prices at all, so that its charges have to be looked up."""

    cancellations: bool
    corrections: bool


class PageRow(NamedTuple):
    """A charge of the time that is looked at, its amount (micro-CHF), and whether it is of the provider and model; what
    it keeps of its price is read only then."""

    charge: Charge
    amount: int
    wanted: bool
    derivation: str | None


async def next_mandate(connection: AsyncConnection, selection: Selection, after: int) -> int | None:
    """The first mandate after a number that has rows of the time, and dimensions of the provider and model."""
    of_mandate = sa.and_(transactions.c.mandate_no == mandates.c.no, selection.of_time())
    used = sa.select(sa.true()).select_from(transactions).where(of_mandate).correlate(mandates).exists()
    named = (
        sa.select(sa.true())
        .select_from(dimensions)
        .where(dimensions.c.mandate_no == mandates.c.no, selection.of_dimension())
        .correlate(mandates)
        .exists()
    )
    read = sa.select(mandates.c.no).where(mandates.c.no > after, named, used).order_by(mandates.c.no).limit(1)
    number: int | None = await connection.scalar(read)
    return number


async def read_marks(connection: AsyncConnection, mandate_no: int) -> Marks:
    """Whether charges of a mandate may be cancelled or corrected."""
    corrected = sa.select(sa.true()).select_from(price_corrections).where(price_corrections.c.mandate_no == mandate_no)
    read = sa.select(mandates.c.has_cancellations, corrected.exists()).where(mandates.c.no == mandate_no)
    return Marks(*(await connection.execute(read)).one())


async def read_page(
    connection: AsyncConnection, selection: Selection, position: Position, limit: int
) -> Sequence[PageRow]:
    """The next `limit` charges of the position's mandate, by time and event; fewer are its last. Charges of other
    providers and models are among them, so that no page takes long to be found."""
    charge = transactions.c
    is_charge = sa.and_(~charge.own, charge.contra_account == "REVENUE", charge.transaction_type == "DEBIT")
    page = (
        sa.select(transactions)
        .where(charge.mandate_no == position.mandate_no, selection.of_time(), is_charge, *_after(position))
        .order_by(charge.occurred_at, charge.event_id)
        .limit(limit)
        .subquery("page")
    )
    row = page.c
    posted = sa.and_(accounts.c.mandate_no == row.mandate_no, accounts.c.no == row.posted_account_no)
    of_row = sa.and_(dimensions.c.mandate_no == row.mandate_no, dimensions.c.no == row.dimension_no)
    # In the order of the fields of `Charge`.
    columns = (
        *(row.mandate_no, row.event_id, row.member_account_no, row.posted_account_no, accounts.c.type, row.seq),
        *(row.reference_type, row.occurred_at, row.period_day, row.dimension_no, row.workflow_id),
        *(dimensions.c.provider, dimensions.c.model),
    )
    wanted = sa.func.coalesce(selection.of_dimension(), sa.false())
    read = (
        sa.select(*columns, row.amount, wanted, sa.case((wanted, row.derivation)))
        .select_from(page.join(accounts, posted).outerjoin(dimensions, of_row))
        .order_by(row.occurred_at, row.event_id)
    )
    return [PageRow(Charge(*each[:-3]), *each[-3:]) for each in await connection.execute(read)]


def _after(position: Position) -> list[sa.ColumnElement[Any]]:
    """Rows behind the position; the time alone first, because an index has it."""
    if position.occurred_at is None:
        return []
    at, event_id = transactions.c.occurred_at, transactions.c.event_id
    behind = sa.or_(at > position.occurred_at, event_id > position.event_id)
    return [at >= position.occurred_at, behind]
