"""Reads of the charges that a re-rating looks at: mandate by mandate, a page at a time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.correct_prices import Charge
from services.chassis.database import driver_connection

__all__ = ["EVERYTHING", "PageRow", "Part", "Position", "Selection", "mandates_of", "read_page"]

_NO_EVENT: Final = UUID(int=0)
_MICROSECOND: Final = timedelta(microseconds=1)


class Selection(NamedTuple):
    """Usage of [from, to), of a provider and model where they are named, exactly as reported."""

    from_time: datetime
    to_time: datetime
    provider: str | None = None
    model: str | None = None


class Part(NamedTuple):
    """The mandates whose number leaves `number` when it is divided by `of`: whoever works on one part of a re-rating
    and whoever works on another never meet at a mandate."""

    number: int
    of: int


EVERYTHING: Final = Part(0, 1)


class Position(NamedTuple):
    """Up to where charges were looked at: all of the mandates before, and of this one those up to a time and event;
    all of it where those are None."""

    mandate_no: int = 0
    occurred_at: datetime | None = None
    event_id: UUID | None = None


class PageRow(NamedTuple):
    """A charge of the time that is looked at, its amount (micro-CHF), and whether it is of the provider and model; what
    it keeps of its price is read only then."""

    charge: Charge
    amount: int
    wanted: bool
    derivation: str | None


# Of each mandate no more than a page, from the position on: the time alone first, because an index has it. Mandates are
# read one after the other, in the order of the inner query, until the page is full: what depends on the row of another
# and has a limit of its own is joined in no other way. To sort again before the limit would read all of them wherever
# the planner knows too little of the tables. The columns are in the order of the fields of `Charge` and `PageRow`.
_OF_DIMENSION: Final = "($6::text IS NULL OR d.provider = $6) AND ($7::text IS NULL OR d.model = $7)"
_READ_PAGE: Final = (
    "SELECT t.mandate_no, t.event_id, t.member_account_no, t.posted_account_no, a.type, t.seq, t.reference_type,"
    " t.occurred_at, t.period_day, t.dimension_no, t.workflow_id, d.provider, d.model, t.amount, wanted.yes,"
    " CASE WHEN wanted.yes THEN t.derivation END"
    " FROM (SELECT of_mandate.* FROM (SELECT m.no FROM mandates m WHERE m.no >= $1 AND m.no % $9 = $8"
    f" AND EXISTS (SELECT FROM dimensions d WHERE d.mandate_no = m.no AND {_OF_DIMENSION})"
    " ORDER BY m.no OFFSET 0) AS m CROSS JOIN LATERAL"
    " (SELECT c.* FROM transactions c WHERE c.mandate_no = m.no"
    " AND c.occurred_at >= CASE WHEN m.no = $1 THEN greatest($2::timestamptz, $4::timestamptz) ELSE $4 END"
    " AND c.occurred_at < $5"
    " AND (m.no > $1 OR c.occurred_at > $2 OR c.event_id > $3)"
    " AND NOT c.own AND c.contra_account = 'REVENUE' AND c.transaction_type = 'DEBIT'"
    " ORDER BY c.occurred_at, c.event_id LIMIT {limit}) AS of_mandate LIMIT {limit}) AS t"
    " JOIN accounts a ON a.mandate_no = t.mandate_no AND a.no = t.posted_account_no"
    " LEFT JOIN dimensions d ON d.mandate_no = t.mandate_no AND d.no = t.dimension_no"
    f" CROSS JOIN LATERAL (SELECT coalesce({_OF_DIMENSION}, false) AS yes) AS wanted"
    " ORDER BY t.mandate_no, t.occurred_at, t.event_id"
)


async def mandates_of(connection: AsyncConnection, part: Part) -> list[int]:
    """The mandates of a part, by number."""
    rows = await driver_connection(connection).fetch("SELECT no FROM mandates WHERE no % $2 = $1 ORDER BY no", *part)
    return [row["no"] for row in rows]


async def read_page(
    connection: AsyncConnection, selection: Selection, part: Part, position: Position, limit: int
) -> Sequence[PageRow]:
    """The next `limit` charges of a part of the mandates, by mandate, time and event; fewer are the last. Charges of
    other providers and models are among them, so that no page takes long to be found."""
    begin, event_id = position.occurred_at, position.event_id
    rows = await driver_connection(connection).fetch(
        _READ_PAGE.format(limit=limit),
        position.mandate_no if begin else position.mandate_no + 1,
        begin or selection.from_time - _MICROSECOND,
        event_id or _NO_EVENT,
        selection.from_time,
        selection.to_time,
        selection.provider,
        selection.model,
        *part,
    )
    # By slices, because this is done for each charge.
    return [PageRow(Charge(*row[:13]), row[13], row[14], row[15]) for row in rows]
