"""What the pool's rows come to, by what an invoice has a line for.

Sums of consecutive rows can be added, so what was used in a month is read before the mandate is locked, and under its
lock only what has come since: rows are never changed, and those of an account are committed in their order.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
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
_MONTH = sa.cast(sa.func.date_trunc("month", sa.cast(transactions.c.period_day, sa.DateTime)), sa.Date)
_AFTER_ALL = 2**62


async def read_usage(connection: AsyncConnection, rows: Rows) -> PoolUsage:
    """What rows come to; the number of statements does not depend on how many there are."""
    charged = await connection.execute(_charges(rows))
    covered = await connection.execute(_covered(rows))
    sums: dict[_Key, _Sum] = {}
    next_from = _AFTER_ALL
    for due, kind, month, dimension_no, first_seq, *values in [*charged, *covered]:
        first_day, last_day, count, cost = values
        sums[_Key(due, kind, month, dimension_no)] = _Sum(first_day, last_day, int(count), int(cost))
        if not due:
            next_from = min(next_from, first_seq)
    return PoolUsage(sums, next_from)


def _charges(rows: Rows) -> sa.Select[Any]:
    """Charges, what takes them back and what prices them again; the corrections of charges that no invoice of the
    mandate can have had are left out."""
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
    read = _sums(rows, kind, columns.dimension_no, counted, cost)
    return read.where(_IS_USAGE, _of_invoices())


def _of_invoices() -> sa.ColumnElement[bool]:
    """Whether a row is a charge, or is about one that fell into CREDIT_POSTPAY."""
    span = postpay_spans.c
    of_charge = sa.and_(
        span.mandate_no == transactions.c.mandate_no,
        span.from_seq < _CHARGE_SEQ,
        sa.or_(span.to_seq.is_(None), span.to_seq >= _CHARGE_SEQ),
    )
    return sa.or_(transactions.c.transaction_type == "DEBIT", sa.exists().where(of_charge).correlate(transactions))


def _covered(rows: Rows) -> sa.Select[Any]:
    """What budgets and promotions paid of usage: what charges spent of them, or got back, and what of a new one covered
    a debt at once. A deduction, so the cost is below zero."""
    columns = transactions.c
    change = (
        sa.func.unnest(sa.func.string_to_array(columns.grants, " ")).table_valued("change").render_derived(name="parts")
    ).lateral()
    number = sa.cast(sa.func.split_part(change.c.change, ":", 1), sa.BigInteger)
    by = sa.cast(sa.func.split_part(change.c.change, ":", 2), sa.BigInteger)
    spent = _sums(rows, grants.c.kind, sa.null(), 0, by).where(_IS_USAGE, columns.grants.is_not(None), _of_invoices())
    of_mandate = sa.and_(grants.c.mandate_no == columns.mandate_no, grants.c.no == number)
    spent = spent.join(change, sa.true()).join(grants, of_mandate)
    left = sa.select(sa.func.coalesce(sa.func.sum(by), 0)).select_from(change).scalar_subquery()
    kind = sa.case((columns.contra_account == "PROMOTIONAL", "PROMOTION"), else_="BUDGET")
    given = sa.and_(
        columns.transaction_type == "CREDIT", columns.contra_account.in_(("SUBSCRIPTION_GRANT", "PROMOTIONAL"))
    )
    at_once = _sums(rows, kind, sa.null(), 0, left - columns.amount).where(given)
    both = sa.union_all(spent, at_once).subquery("covered")
    key = (both.c.due, both.c.kind, both.c.month, both.c.dimension_no)
    return sa.select(
        *key,
        sa.func.min(both.c.first_seq),
        sa.func.min(both.c.first_day),
        sa.func.max(both.c.last_day),
        sa.func.sum(both.c.count),
        sa.func.sum(both.c.cost),
    ).group_by(*key)


def _sums(
    rows: Rows,
    kind: sa.ColumnElement[str],
    dimension_no: sa.ColumnElement[int] | sa.Null,
    count: sa.ColumnElement[int] | int,
    cost: sa.ColumnElement[int],
) -> sa.Select[Any]:
    columns = transactions.c
    due = columns.period_day <= rows.through
    key = (
        due.label("due"),
        kind.label("kind"),
        _MONTH.label("month"),
        sa.cast(dimension_no, sa.Integer).label("dimension_no"),
    )
    had = sa.and_(columns.seq <= rows.last.up_to_seq, columns.period_day <= rows.last.through_day)
    summed: list[sa.ColumnElement[Any]] = [
        *key,
        sa.func.min(columns.seq).label("first_seq"),
        sa.func.min(columns.period_day).label("first_day"),
        sa.func.max(columns.period_day).label("last_day"),
        sa.func.sum(count).label("count"),
        sa.func.sum(cost).label("cost"),
    ]
    return (
        sa.select(*summed)
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
