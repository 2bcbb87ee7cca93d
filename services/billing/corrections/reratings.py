"""Re-ratings as they are stored: what was asked for, how far it is, and what it came to."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.corrections.charges import Position, Selection
from services.billing.corrections.price_charges import NotPriced, Totals
from services.billing.money import exact, in_chf
from services.billing.tables import mandates, rerated_mandates, reratings

__all__ = [
    "MANDATES_MAX",
    "MandateTotals",
    "Rerating",
    "add_totals",
    "find_rerating",
    "insert_rerating",
    "lock_running",
    "name_mandates",
    "read_mandate_totals",
    "read_totals",
    "save_progress",
]

# Mandates that an answer lists, those with the largest difference first.
MANDATES_MAX = 1_000


class Rerating(NamedTuple):
    """A re-rating and how far it is."""

    id: UUID
    selection: Selection
    started_at: datetime
    started_by_user_id: str | None
    finished_at: datetime | None
    position: Position
    not_priced: Counter[NotPriced]


class MandateTotals(NamedTuple):
    """What a re-rating came to in a mandate."""

    mandate_id: str
    totals: Totals


async def insert_rerating(
    connection: AsyncConnection, rerating_id: UUID, selection: Selection, *, user_id: str | None, now: datetime
) -> None:
    """Keeps that a re-rating was asked for, from which moment on it runs."""
    asked = {**selection._asdict(), "id": rerating_id, "started_at": now, "started_by_user_id": user_id}
    await connection.execute(sa.insert(reratings).values(**asked))


async def find_rerating(connection: AsyncConnection, rerating_id: UUID) -> Rerating | None:
    """A re-rating as it stands."""
    read = sa.select(reratings).where(reratings.c.id == rerating_id)
    return _rerating((await connection.execute(read)).mappings().one_or_none())


async def lock_running(connection: AsyncConnection, rerating_id: UUID | None) -> Rerating | None:
    """The oldest re-rating that is not finished, or the given one, for this transaction alone; None where there is
    none, or somebody else works on it."""
    columns = reratings.c
    wanted = [] if rerating_id is None else [columns.id == rerating_id]
    read = sa.select(reratings).where(columns.finished_at.is_(None), *wanted).order_by(columns.started_at, columns.id)
    row = (await connection.execute(read.limit(1).with_for_update(skip_locked=True))).mappings().one_or_none()
    return _rerating(row)


def _rerating(row: sa.RowMapping | None) -> Rerating | None:
    if row is None:
        return None
    return Rerating(
        row["id"],
        Selection(row["from_time"], row["to_time"], row["provider"], row["model"]),
        row["started_at"],
        row["started_by_user_id"],
        row["finished_at"],
        Position(row["mandate_no"], row["occurred_at"], row["event_id"]),
        Counter({NotPriced(*names): count for *names, count in row["not_priced"]}),
    )


async def save_progress(connection: AsyncConnection, rerating: Rerating) -> None:
    """Keeps how far a re-rating is, in the transaction that brought it there."""
    counts = [[*why, count] for why, count in sorted(rerating.not_priced.items(), key=str)]
    change = sa.update(reratings).where(reratings.c.id == rerating.id)
    position = rerating.position._asdict()
    await connection.execute(change.values(**position, not_priced=counts, finished_at=rerating.finished_at))


async def add_totals(connection: AsyncConnection, rerating_id: UUID, mandate_no: int, totals: Totals) -> None:
    """Adds what a page of a mandate's charges came to."""
    counted: dict[str, Any] = {"charges": totals.charges, "corrected": totals.differing}
    counted |= {"price_before": in_chf(totals.before), "price_after": in_chf(totals.after)}
    added = insert(rerated_mandates).values(rerating_id=rerating_id, mandate_no=mandate_no, **counted)
    grown = {name: rerated_mandates.c[name] + added.excluded[name] for name in counted}
    key = [rerated_mandates.c.rerating_id, rerated_mandates.c.mandate_no]
    await connection.execute(added.on_conflict_do_update(index_elements=key, set_=grown))


async def read_totals(connection: AsyncConnection, rerating_id: UUID) -> tuple[Totals, int]:
    """What a re-rating came to so far, and in how many mandates."""
    of_all = rerated_mandates.c
    sums = [sa.func.coalesce(sa.func.sum(column), 0) for column in (of_all.charges, of_all.corrected)]
    sums += [sa.func.coalesce(sa.func.sum(column), 0) for column in (of_all.price_before, of_all.price_after)]
    read = sa.select(*sums, sa.func.count()).where(of_all.rerating_id == rerating_id)
    *counted, number = (await connection.execute(read)).one()
    return _totals(*counted), number


async def read_mandate_totals(connection: AsyncConnection, rerating_id: UUID) -> Sequence[MandateTotals]:
    """What a re-rating came to in each mandate, as many as are listed."""
    of_each = rerated_mandates.c
    read = (
        sa.select(mandates.c.id, of_each.charges, of_each.corrected, of_each.price_before, of_each.price_after)
        .select_from(rerated_mandates.join(mandates, mandates.c.no == of_each.mandate_no))
        .where(of_each.rerating_id == rerating_id)
        .order_by(sa.func.abs(of_each.price_after - of_each.price_before).desc(), mandates.c.no)
        .limit(MANDATES_MAX)
    )
    return [MandateTotals(name, _totals(*counted)) for name, *counted in await connection.execute(read)]


async def name_mandates(connection: AsyncConnection, numbers: Sequence[int]) -> dict[int, str]:
    """The ids of mandates by their numbers."""
    given = mandates.c.no == sa.any_(sa.literal(list(numbers), sa.ARRAY(sa.Integer)))
    rows = await connection.execute(sa.select(mandates.c.no, mandates.c.id).where(given))
    return {row.no: row.id for row in rows}


def _totals(charges: int | Decimal, corrected: int | Decimal, before: Decimal, after: Decimal) -> Totals:
    return Totals(int(charges), int(corrected), exact(Decimal(before)), exact(Decimal(after)))
