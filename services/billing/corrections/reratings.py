"""Re-ratings as they are stored: what was asked for, how far each part of it is, and what it came to."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.corrections.charges import Part, Position, Selection
from services.billing.corrections.price_charges import NotPriced, Totals
from services.billing.money import exact, in_chf
from services.billing.tables import mandates, rerated_mandates, rerating_parts, reratings
from services.chassis.statements import one_of

__all__ = [
    "MANDATES_MAX",
    "PARTS",
    "MandateTotals",
    "Rerating",
    "RunningPart",
    "add_totals",
    "find_rerating",
    "finish_if_last",
    "insert_rerating",
    "lock_part",
    "name_mandates",
    "read_mandate_totals",
    "read_totals",
    "save_progress",
]

# As many workers share a re-rating; with more parts than workers, none is left with half of it at the end.
PARTS = 4

# Mandates that an answer lists, those with the largest difference first.
MANDATES_MAX = 1_000


class Rerating(NamedTuple):
    """A re-rating, and which charges its parts have left as they are so far."""

    id: UUID
    selection: Selection
    started_at: datetime
    started_by_user_id: str | None
    finished_at: datetime | None
    not_priced: Counter[NotPriced]


class RunningPart(NamedTuple):
    """A part of a re-rating and how far it is."""

    rerating_id: UUID
    selection: Selection
    part: Part
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
    parts = [{"rerating_id": rerating_id, "part": number} for number in range(PARTS)]
    await connection.execute(sa.insert(rerating_parts), parts)


async def find_rerating(connection: AsyncConnection, rerating_id: UUID) -> Rerating | None:
    """A re-rating as it stands."""
    of_part = rerating_parts.c
    row = (await connection.execute(sa.select(reratings).where(reratings.c.id == rerating_id))).mappings().one_or_none()
    if row is None:
        return None
    not_priced: Counter[NotPriced] = Counter()
    for counts in await connection.scalars(sa.select(of_part.not_priced).where(of_part.rerating_id == rerating_id)):
        not_priced += _not_priced(counts)
    started = row["started_at"], row["started_by_user_id"]
    return Rerating(row["id"], _selection(row), *started, row["finished_at"], not_priced)


async def lock_part(
    connection: AsyncConnection,
    rerating_id: UUID | None,
    last: tuple[UUID, int],
    failed: Collection[tuple[UUID, int]] = (),
) -> RunningPart | None:
    """A part that is not finished, of the oldest re-rating or of the given one, for this transaction alone; None where
    there is none, or somebody else works on each. The part that the caller worked on `last`, given as (re-rating,
    number), is his before others, and one that has `failed` comes after all others."""
    columns, asked = rerating_parts.c, reratings.c
    wanted = [] if rerating_id is None else [columns.rerating_id == rerating_id]
    own = sa.and_(columns.rerating_id == last[0], columns.part == last[1])
    after = sa.tuple_(columns.rerating_id, columns.part).in_(failed)
    read = (
        sa.select(*columns, asked.from_time, asked.to_time, asked.provider, asked.model)
        .select_from(rerating_parts.join(reratings, asked.id == columns.rerating_id))
        .where(columns.finished_at.is_(None), *wanted)
        .order_by(after, own.desc(), asked.started_at, columns.rerating_id, columns.part)
    )
    locked = read.limit(1).with_for_update(skip_locked=True, of=rerating_parts)
    row = (await connection.execute(locked)).mappings().one_or_none()
    if row is None:
        return None
    position = Position(row["mandate_no"], row["occurred_at"], row["event_id"])
    part = Part(row["part"], PARTS)
    return RunningPart(row["rerating_id"], _selection(row), part, position, _not_priced(row["not_priced"]))


async def save_progress(connection: AsyncConnection, part: RunningPart, *, finished_at: datetime | None) -> None:
    """Keeps how far a part is, in the transaction that brought it there."""
    counts = [[*why, count] for why, count in sorted(part.not_priced.items(), key=str)]
    of_part = rerating_parts.c
    this = sa.and_(of_part.rerating_id == part.rerating_id, of_part.part == part.part.number)
    change = sa.update(rerating_parts).where(this)
    await connection.execute(change.values(**part.position._asdict(), not_priced=counts, finished_at=finished_at))


async def finish_if_last(connection: AsyncConnection, rerating_id: UUID, *, now: datetime) -> None:
    """Ends a re-rating where no part of it is left, once the caller's is saved as finished. Whoever finishes one at the
    same time waits here, and so sees that this one is finished."""
    await connection.execute(sa.select(reratings.c.id).where(reratings.c.id == rerating_id).with_for_update())
    of_part = rerating_parts.c
    left = sa.select(sa.true()).where(of_part.rerating_id == rerating_id, of_part.finished_at.is_(None)).exists()
    await connection.execute(sa.update(reratings).where(reratings.c.id == rerating_id, ~left).values(finished_at=now))


def _selection(row: sa.RowMapping) -> Selection:
    return Selection(row["from_time"], row["to_time"], row["provider"], row["model"])


def _not_priced(counts: Sequence[Sequence[Any]]) -> Counter[NotPriced]:
    return Counter({NotPriced(*names): count for *names, count in counts})


async def add_totals(connection: AsyncConnection, rerating_id: UUID, by_mandate: Mapping[int, Totals]) -> None:
    """Adds what the charges of a page came to, by mandate; one statement."""
    if not by_mandate:
        return
    totals = by_mandate.values()
    await connection.execute(
        sa.text(
            "INSERT INTO rerated_mandates AS r (rerating_id, mandate_no, charges, corrected, price_before, price_after)"
            " SELECT :rerating_id, given.* FROM unnest(CAST(:numbers AS int[]), CAST(:charges AS bigint[]),"
            " CAST(:corrected AS bigint[]), CAST(:before AS numeric[]), CAST(:after AS numeric[])) AS given"
            " ON CONFLICT (rerating_id, mandate_no) DO UPDATE SET charges = r.charges + excluded.charges,"
            " corrected = r.corrected + excluded.corrected, price_before = r.price_before + excluded.price_before,"
            " price_after = r.price_after + excluded.price_after"
        ),
        {
            "rerating_id": rerating_id,
            "numbers": list(by_mandate),
            "charges": [each.charges for each in totals],
            "corrected": [each.differing for each in totals],
            "before": [in_chf(each.before) for each in totals],
            "after": [in_chf(each.after) for each in totals],
        },
    )


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
    rows = await connection.execute(sa.select(mandates.c.no, mandates.c.id).where(one_of(mandates.c.no, numbers)))
    return {row.no: row.id for row in rows}


def _totals(charges: int | Decimal, corrected: int | Decimal, before: Decimal, after: Decimal) -> Totals:
    return Totals(int(charges), int(corrected), exact(Decimal(before)), exact(Decimal(after)))
