"""What the pool's rows come to, by what an invoice has a line for.

Sums of consecutive rows can be added, so what was used in a month is read before the mandate is locked, and under its
lock only what has come since: rows are never changed, and those of an account are committed in their order.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.invoices.domain import DraftLine, LineKind
from services.billing.invoices.repository import LastInvoice
from services.billing.tables import dimensions, grants, postpay_spans, transactions
from services.chassis.statements import one_of

__all__ = ["PoolUsage", "Rows", "draft_lines", "read_usage"]

# Provider, model, feature and its instance.
_Names = tuple[str | None, str | None, str | None, str | None]
_ORDER: Mapping[LineKind, int] = {"USAGE": 0, "STORAGE": 1, "CORRECTION": 2, "BUDGET": 3, "PROMOTION": 4, "CREDIT": 5}


class _Key(NamedTuple):
    """What lines are by: whether the invoice has them or a later one will, their kind, month, and dimension."""

    due: bool
    kind: LineKind
    month: date
    dimension_no: int | None


@dataclass(frozen=True, slots=True)
class _Sum:
    """Of rows of one key: their first and last day, their number and cost (micro-CHF)."""

    first_day: date
    last_day: date
    count: int
    cost: int

    def plus(self, other: "_Sum") -> "_Sum":
        first, last = min(self.first_day, other.first_day), max(self.last_day, other.last_day)
        return _Sum(first, last, self.count + other.count, self.cost + other.cost)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a mandate's pool that an invoice may have: after the first number up to the second, of which those
    up to `through` are due, less what `last` has."""

    mandate_no: int
    pool_no: int
    after_seq: int
    up_to_seq: int
    through: date
    last: LastInvoice


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """Sums of rows, and the first row that is not due yet."""

    sums: Mapping[_Key, _Sum]
    next_from_seq: int

    def plus(self, other: "PoolUsage") -> "PoolUsage":
        """The sums of both."""
        sums = dict(self.sums)
        for key, each in other.sums.items():
            sums[key] = sums[key].plus(each) if key in sums else each
        return PoolUsage(sums, min(self.next_from_seq, other.next_from_seq))

    @property
    def later(self) -> int:
        """What later invoices will ask for (micro-CHF)."""
        return sum(each.cost for key, each in self.sums.items() if not key.due)


# The number, in the chain of its account, of the charge that a correction names.
_CHARGE_SEQ: sa.ColumnElement[int] = sa.literal_column(
    "CASE WHEN transactions.transaction_type = 'ADJUSTMENT' AND pg_input_is_valid(transactions.reference_id, 'uuid')"
    " THEN ('x' || right(replace(transactions.reference_id, '-', ''), 16))::bit(64)::bigint & 4611686018427387903 END",
    sa.BigInteger,
)
_IS_USAGE = transactions.c.contra_account == "REVENUE"
_AFTER_ALL = 2**62
# So many rows are read by a statement: none takes longer than others may, however much was used.
ROWS_AT_ONCE = 200_000


async def read_usage(connection: AsyncConnection, rows: Rows, *, at_once: int = ROWS_AT_ONCE) -> PoolUsage:
    """What rows come to; each is looked at once."""
    usage = PoolUsage({}, _AFTER_ALL)
    for after in range(rows.after_seq, rows.up_to_seq, at_once):
        some = replace(rows, after_seq=after, up_to_seq=min(after + at_once, rows.up_to_seq))
        usage = usage.plus(await _read_some(connection, some))
    return usage


async def _read_some(connection: AsyncConnection, rows: Rows) -> PoolUsage:
    found: list[tuple[_Key, _Sum]] = []
    spent: list[tuple[_Key, int, _Sum]] = []
    next_from = _AFTER_ALL
    for due, kind, month, dimension_no, paid_from, first_seq, *days, count, cost, by, number in [
        *await connection.execute(_charges(rows)),
        *await connection.execute(_given(rows)),
    ]:
        key, first, last = _Key(due, kind, month, dimension_no), days[0], days[1]
        found.append((key, _Sum(first, last, int(count), int(cost))))
        for grant_no, part in _parts(paid_from, by, number):
            spent.append((key, grant_no, _Sum(first, last, 0, part)))
        if not due:
            next_from = min(next_from, first_seq)
    kinds = await _kinds(connection, rows.mandate_no, {grant_no for _, grant_no, _ in spent})
    found += [
        (key._replace(kind=kinds[grant_no], dimension_no=None), part)
        for key, grant_no, part in spent
        if grant_no in kinds
    ]
    sums: dict[_Key, _Sum] = {}
    for key, each in found:
        sums[key] = sums[key].plus(each) if key in sums else each
    return PoolUsage(sums, next_from)


def _charges(rows: Rows) -> sa.Select[Any]:
    """Charges, what takes them back and what prices them again, by what they were paid from; the corrections of charges
    that no invoice of the mandate can have had are left out."""
    columns = transactions.c
    corrects = columns.transaction_type == "ADJUSTMENT"
    kind = sa.case(
        (
            sa.and_(corrects, rows.last.up_to_seq >= _CHARGE_SEQ, columns.period_day <= rows.last.through_day),
            "CORRECTION",
        ),
        (columns.reference_type == "STORAGE", "STORAGE"),
        else_="USAGE",
    )
    # What prices a charge again keeps how; what takes it back does not.
    counted = sa.case((~corrects, 1), (columns.derivation.is_(None), -1), else_=0)
    cost = sa.case((corrects, -columns.amount), else_=columns.amount)
    # Of one grant its number, else all that a row says of them, which few rows do.
    single = sa.func.strpos(columns.grants, " ") == 0
    paid_from = sa.case((single, sa.func.split_part(columns.grants, ":", 1)), else_=columns.grants)
    by = sa.case((single, sa.cast(sa.func.split_part(columns.grants, ":", 2), sa.BigInteger)))
    read = _sums(rows, kind, columns.dimension_no, count=counted, cost=cost, paid_from=paid_from, by=by)
    return _by_month(rows, read.where(_IS_USAGE, _of_invoices()))


def _of_invoices() -> sa.ColumnElement[bool]:
    """Whether a row is a charge, or is about one that fell into CREDIT_POSTPAY."""
    span = postpay_spans.c
    of_charge = sa.and_(
        span.mandate_no == transactions.c.mandate_no,
        span.from_seq < _CHARGE_SEQ,
        sa.or_(span.to_seq.is_(None), span.to_seq >= _CHARGE_SEQ),
    )
    return sa.or_(transactions.c.transaction_type == "DEBIT", sa.exists().where(of_charge).correlate(transactions))


def _given(rows: Rows) -> sa.Select[Any]:
    """What of new budgets and promotions covered a debt at once. A deduction, so the cost is below zero; so is what
    charges spent of them."""
    columns = transactions.c
    change = (
        sa.func.unnest(sa.func.string_to_array(columns.grants, " ")).table_valued("change").render_derived(name="parts")
    ).lateral()
    by = sa.cast(sa.func.split_part(change.c.change, ":", 2), sa.BigInteger)
    left = sa.select(sa.func.coalesce(sa.func.sum(by), 0)).select_from(change).scalar_subquery()
    kind = sa.case((columns.contra_account == "PROMOTIONAL", "PROMOTION"), else_="BUDGET")
    given = sa.and_(
        columns.transaction_type == "CREDIT", columns.contra_account.in_(("SUBSCRIPTION_GRANT", "PROMOTIONAL"))
    )
    nothing = sa.cast(sa.null(), sa.Text)
    read = _sums(rows, kind, sa.null(), count=0, cost=left - columns.amount, paid_from=nothing, by=0)
    return _by_month(rows, read.where(given))


def _parts(paid_from: str | None, by: Decimal | None, number: int) -> list[tuple[int, int]]:
    """The grants that so many rows were paid from, by number, and by how much these changed (micro-CHF)."""
    if not paid_from:
        return []
    if by is not None:
        return [(int(paid_from), int(by))]
    parts = (part.split(":") for part in paid_from.split())
    return [(int(grant_no), int(change) * number) for grant_no, change in parts]


async def _kinds(connection: AsyncConnection, mandate_no: int, numbers: Collection[int]) -> dict[int, LineKind]:
    """What grants are."""
    of_mandate = sa.and_(grants.c.mandate_no == mandate_no, one_of(grants.c.no, sorted(numbers)))
    found = await connection.execute(sa.select(grants.c.no, grants.c.kind).where(of_mandate))
    return {row.no: row.kind for row in found}


def _sums(
    rows: Rows,
    kind: sa.ColumnElement[str],
    dimension_no: sa.ColumnElement[int] | sa.Null,
    *,
    count: sa.ColumnElement[int] | int,
    cost: sa.ColumnElement[int],
    paid_from: sa.ColumnElement[str],
    by: sa.ColumnElement[int] | int,
) -> sa.Select[Any]:
    """Sums by day; those of a day are few."""
    columns = transactions.c
    had = sa.and_(columns.seq <= rows.last.up_to_seq, columns.period_day <= rows.last.through_day)
    return (
        sa.select(
            columns.period_day.label("day"),
            kind.label("kind"),
            sa.cast(dimension_no, sa.Integer).label("dimension_no"),
            paid_from.label("paid_from"),
            sa.func.min(columns.seq).label("first_seq"),
            sa.func.sum(count).label("count"),
            sa.func.sum(cost).label("cost"),
            sa.func.sum(by).label("by"),
            sa.func.count().label("number"),
        )
        .select_from(transactions)
        .where(
            columns.mandate_no == rows.mandate_no,
            columns.posted_account_no == rows.pool_no,
            columns.seq > rows.after_seq,
            columns.seq <= rows.up_to_seq,
            ~had,
        )
        .group_by(sa.text("1"), sa.text("2"), sa.text("3"), sa.text("4"))
    )


def _by_month(rows: Rows, of_days: sa.Select[Any]) -> sa.Select[Any]:
    """Those sums by whether they are due, kind, month, dimension and what they were paid from; with the first row, the
    first and the last day, and the number of rows."""
    each = of_days.subquery("of_days").c
    month = sa.cast(sa.func.date_trunc("month", sa.cast(each.day, sa.DateTime)), sa.Date)
    key = ((each.day <= rows.through).label("due"), each.kind, month.label("month"), each.dimension_no, each.paid_from)
    return sa.select(
        *key,
        sa.func.min(each.first_seq),
        sa.func.min(each.day),
        sa.func.max(each.day),
        sa.func.sum(each.count),
        sa.func.sum(each.cost),
        sa.func.sum(each.by),
        sa.cast(sa.func.sum(each.number), sa.BigInteger),
    ).group_by(*(sa.text(str(number)) for number in range(1, 6)))


async def draft_lines(connection: AsyncConnection, mandate_no: int, usage: PoolUsage) -> list[DraftLine]:
    """The lines of what is due, charges before deductions, the oldest first."""
    due = {key: each for key, each in usage.sums.items() if key.due and (each.cost or each.count)}
    names = await _names(connection, mandate_no, {key.dimension_no for key in due if key.dimension_no is not None})
    merged: dict[tuple[LineKind, date, _Names], _Sum] = {}
    for key, each in due.items():
        line = (key.kind, key.month, names[key.dimension_no])
        merged[line] = merged[line].plus(each) if line in merged else each
    lines = [
        DraftLine(kind, each.first_day, each.last_day, *named, each.count, each.cost)
        for (kind, _, named), each in merged.items()
    ]
    return sorted(lines, key=_place)


def _place(line: DraftLine) -> tuple[object, ...]:
    names = (line.provider, line.model, line.feature_code, line.feature_instance_id)
    return _ORDER[line.kind], line.first_day.replace(day=1), *((name is None, name or "") for name in names)


async def _names(
    connection: AsyncConnection, mandate_no: int, numbers: Iterable[int]
) -> defaultdict[int | None, _Names]:
    """What dimensions stand for; that of deductions for nothing."""
    columns = dimensions.c
    read = sa.select(
        columns.no, columns.provider, columns.model, columns.feature_code, columns.feature_instance_id
    ).where(columns.mandate_no == mandate_no, one_of(columns.no, list(numbers)))
    named: defaultdict[int | None, _Names] = defaultdict(lambda: (None, None, None, None))
    for number, provider, model, feature_code, instance in await connection.execute(read):
        named[number] = provider, model, feature_code, instance
    return named
