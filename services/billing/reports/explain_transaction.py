"""What one transaction came from: the event, its price, the rounding, and the rows that correct it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.types import parse_uuid
from services.billing.ledger.domain import transaction_id, transaction_place
from services.billing.ledger.spending import read_grants_text
from services.billing.pricing import EARLIEST, LATEST
from services.billing.pricing.derivation import KeptTariff
from services.billing.pricing.explained import (
    Corrected,
    Explained,
    KeptCharge,
    explain_charge,
    explain_correction,
    explain_reading,
    explain_usage,
)
from services.billing.pricing.kept_tariff import StoredPrice, StoredRate, kept_tariff
from services.billing.pricing.repository import readable_time
from services.billing.reports.errors import TransactionUnknown
from services.billing.reports.explanation import Payment, Related, StandingPrice, explanation_json
from services.billing.reports.scope import Scope
from services.billing.reports.transactions import find_transaction, place_of
from services.billing.storage.derivation import ExplainedStorage, explain_storage
from services.billing.tables import (
    budget_movements,
    budget_refunds,
    dimensions,
    grants,
    holds,
    invoice_lines,
    invoices,
    payment_credits,
    payment_refunds,
    postpay_spans,
    price_corrections,
    prices,
    rates,
    recharges,
    transactions,
)
from services.chassis.database import Database
from services.chassis.statements import one_of

__all__ = ["explain_transaction"]

# Of what corrects a charge, so that the answer stays bounded.
CORRECTIONS_MAX = 1000
_REVENUE: sa.ColumnElement[str] = sa.literal_column("'REVENUE'")


async def explain_transaction(database: Database, scope: Scope, transaction: str) -> dict[str, Any]:
    """The whole derivation of a row of the scope, by its id; 404 for any other, whether or not there is one."""
    place = place_of(transaction)
    async with database.reading() as connection:
        row = await find_transaction(connection, scope, *place)
        if row is None:
            raise TransactionUnknown
        corrects = await _corrected(connection, row)
        standing = None if corrects is None else await _standing(connection, row, corrects)
        # A line of an invoice adds up what everybody has used.
        shows_all = scope.shows_whole(row["mandate_id"])
        related = Related(
            corrections=await _corrections(connection, row["mandate_no"], transaction_id(*place)),
            corrects=corrects,
            hold=None if row["own"] else await _settled_hold(connection, row),
            payment=await _payment(connection, row),
            grants=await _changed_grants(connection, row),
            invoice_line=await _invoice_line(connection, row, corrects) if shows_all else None,
            standing=standing,
            storage=_storage(row),
        )
        explained = await _explained(connection, row, corrects, standing)
    return explanation_json(row, explained, related)


async def _changed_grants(connection: AsyncConnection, row: sa.RowMapping) -> list[tuple[sa.RowMapping, int]]:
    """The grants that a row gave, spent, gave back or let expire, with the change of each in micro-CHF; twice where
    what was given back covered a debt at once."""
    changes = read_grants_text(row["grants"])
    if not changes:
        return []
    named = one_of(grants.c.no, sorted({no for no, _ in changes}))
    found = await connection.execute(sa.select(grants).where(grants.c.mandate_no == row["mandate_no"], named))
    by_number = {grant["no"]: grant for grant in found.mappings()}
    return [(by_number[no], change) for no, change in changes if no in by_number]


async def _explained(
    connection: AsyncConnection, row: sa.RowMapping, corrects: sa.RowMapping | None, standing: StandingPrice | None
) -> Explained | None:
    """The price of a charge of usage or of a correction of it, the usage alone of what takes one back; None for every
    other row."""
    if row["contra_account"] != "REVENUE" or (row["own"] and corrects is None):
        return None
    names = row["provider"], row["model"]
    kept = KeptCharge(row["derivation"] or "", row["amount"], names, _time(row))
    if corrects is None:
        return explain_charge(kept, await _tariff_of(connection, kept))
    if not kept.derivation:
        return explain_usage(corrects["derivation"] or "")
    if standing is None:
        return replace(explain_usage(kept.derivation), fault="is recorded as no correction of a price")
    charge = KeptCharge(corrects["derivation"] or "", corrects["amount"], names, _time(corrects))
    corrected = Corrected(charge, standing.before, standing.after)
    return explain_correction(kept, corrected, await _tariff_of(connection, kept))


def _storage(row: sa.RowMapping) -> ExplainedStorage | None:
    """The terms of a charge of storage; None for every other row."""
    of_storage = row["own"] and row["contra_account"] == "REVENUE" and row["transaction_type"] == "DEBIT"
    return explain_storage(row["derivation"] or "", row["amount"]) if of_storage else None


def _time(row: sa.RowMapping) -> datetime | None:
    return row["occurred_at"] if _in_years(row) else None


async def _standing(connection: AsyncConnection, row: sa.RowMapping, corrects: sa.RowMapping) -> StandingPrice | None:
    """The number of a correction of its charge, and the exact prices before it and from then on; None for a row that
    takes a charge back."""
    columns = price_corrections.c
    of_event = sa.and_(columns.mandate_no == corrects["mandate_no"], columns.event_id == corrects["event_id"])
    read = sa.select(
        columns.correction_id,
        columns.number,
        sa.func.lag(columns.price).over(order_by=columns.number).label("before"),
        columns.price,
        columns.rerating_id,
    ).where(of_event)
    found = read.subquery("numbered")
    named = sa.select(found.c.number, found.c.before, found.c.price, found.c.rerating_id)
    one = (await connection.execute(named.where(found.c.correction_id == row["event_id"]))).one_or_none()
    return None if one is None else StandingPrice(*one)


def _in_years(row: sa.RowMapping) -> bool:
    time = row["occurred_at"]
    # The driver gives a time that no date of Python can say without a zone.
    return time.tzinfo is not None and EARLIEST <= time < LATEST


async def _tariff_of(connection: AsyncConnection, charge: KeptCharge) -> KeptTariff:
    """The price versions of the charge's model and the rates of its currency, of whatever of both its row names."""
    price_id, rate_id = explain_reading(charge.derivation)
    found_prices: list[StoredPrice] = []
    found_rates: list[StoredRate] = []
    if price_id is not None:
        provider, model = charge.model
        versions = sa.select(sa.cast(prices.c.id, sa.Text), prices.c.version, prices.c.set_aside.is_(None))
        of_model = versions.where(prices.c.provider == provider, prices.c.model == model)
        found_prices = [StoredPrice(*each) for each in await connection.execute(of_model.order_by(prices.c.id))]
    if rate_id is not None:
        named = rates.alias("named")
        currency = sa.select(named.c.currency).where(sa.cast(named.c.id, sa.Text) == rate_id).scalar_subquery()
        table = sa.select(
            sa.cast(rates.c.id, sa.Text),
            rates.c.currency,
            readable_time(rates.c.valid_from),
            sa.cast(rates.c.rate, sa.Text),
            rates.c.set_aside.is_(None),
        )
        of_currency = table.where(rates.c.currency == currency).order_by(rates.c.id)
        found_rates = [StoredRate(*each) for each in await connection.execute(of_currency)]
    return kept_tariff(found_prices, found_rates)


async def _corrections(connection: AsyncConnection, mandate_no: int, transaction: UUID) -> Sequence[sa.RowMapping]:
    """The rows that take a charge back or price it anew, in the order in which they were recorded."""
    columns = transactions.c
    # Written out, so that the plan for any values can use the index of such rows.
    naming = sa.and_(columns.own, columns.contra_account == _REVENUE, columns.reference_id == str(transaction))
    read = sa.select(transactions).where(columns.mandate_no == mandate_no, naming)
    ordered = read.order_by(columns.recorded_at, columns.posted_account_no, columns.seq).limit(CORRECTIONS_MAX)
    return (await connection.execute(ordered)).mappings().all()


async def _corrected(connection: AsyncConnection, row: sa.RowMapping) -> sa.RowMapping | None:
    """The charge that a correction is about; None for every other row."""
    if not row["own"] or row["contra_account"] != "REVENUE":
        return None
    try:
        place = transaction_place(parse_uuid(row["reference_id"] or ""))
    except PydanticCustomError:
        place = None
    if place is None:
        return None
    columns = transactions.c
    in_chain = sa.and_(columns.posted_account_no == place[0], columns.seq == place[1])
    read = sa.select(transactions).where(columns.mandate_no == row["mandate_no"], in_chain)
    return (await connection.execute(read)).mappings().one_or_none()


async def _settled_hold(connection: AsyncConnection, row: sa.RowMapping) -> sa.RowMapping | None:
    """The hold that a charge settled, whether its usage named the hold or the hold was captured by it."""
    columns = holds.c
    read = sa.select(holds).where(columns.mandate_no == row["mandate_no"], columns.settled_by == row["event_id"])
    return (await connection.execute(read.order_by(columns.created_at).limit(1))).mappings().one_or_none()


async def _invoice_line(
    connection: AsyncConnection, row: sa.RowMapping, corrects: sa.RowMapping | None
) -> sa.RowMapping | None:
    """The line of the invoice that asks for a charge, or that corrects one; None where no invoice does yet. It is on
    the first one of its time in CREDIT_POSTPAY that reaches the row and its day; where that ended without one, what
    was left is in the balance. The correction of a charge from another billing model is on none."""
    if row["contra_account"] != "REVENUE" or row["moved_type"] != "MANDATE":
        return None
    span, issued, line, dimension = postpay_spans.c, invoices.c, invoice_lines.c, dimensions.c
    reached = sa.and_(
        issued.mandate_no == row["mandate_no"], issued.up_to_seq >= row["seq"], issued.through_day >= row["period_day"]
    )
    of_span = sa.exists().where(_spans(row), sa.or_(span.to_seq.is_(None), span.to_seq >= issued.up_to_seq))
    first = sa.select(issued.id, issued.number).where(reached, of_span)
    if corrects is not None:
        first = first.where(sa.exists().where(_spans(corrects)))
    invoice = first.order_by(issued.up_to_seq, issued.through_day).limit(1).subquery("invoice")
    names = ("provider", "model", "feature_code", "feature_instance_id")
    same = sa.and_(*(line[name].is_not_distinct_from(dimension[name]) for name in names))
    kinds = {"STORAGE": ("STORAGE",), "WORKFLOW": ("USAGE",)}.get(row["reference_type"], ())
    if row["transaction_type"] == "ADJUSTMENT":
        kinds = ("CORRECTION", *kinds)
    month = sa.func.date_trunc("month", sa.cast(line.first_day, sa.DateTime))
    of_month = month == sa.func.date_trunc("month", sa.literal(row["period_day"], sa.DateTime))
    of_row = sa.and_(dimension.mandate_no == row["mandate_no"], dimension.no == row["dimension_no"])
    joined = invoice.join(invoice_lines, line.invoice_id == invoice.c.id).join(dimensions, sa.and_(of_row, same))
    read = sa.select(invoice.c.id, invoice.c.number, line.position, line.kind, line.amount, line.cost)
    found = read.select_from(joined).where(line.kind.in_(kinds), of_month).order_by(line.kind).limit(1)
    return (await connection.execute(found)).mappings().one_or_none()


def _spans(row: sa.RowMapping) -> sa.ColumnElement[bool]:
    """The time in CREDIT_POSTPAY of which a row of the pool is."""
    span = postpay_spans.c
    ends_later = sa.or_(span.to_seq.is_(None), span.to_seq >= row["seq"])
    return sa.and_(span.mandate_no == row["mandate_no"], span.from_seq < row["seq"], ends_later)


async def _payment(connection: AsyncConnection, row: sa.RowMapping) -> Payment | None:
    """The payment behind a credit, or behind what takes one back or came back after all, of which the row may be a
    part; None for every other row. A refund may come before its payment, and be of one that never comes."""
    if row["reference_type"] != "PAYMENT" or row["reference_id"] is None:
        return None
    mandate_no, reference = row["mandate_no"], row["reference_id"]
    refund = await _first(connection, payment_refunds, mandate_no, "refund_id", reference)
    if row["transaction_type"] == "ADJUSTMENT":
        refund = refund or await _budget_refund(connection, mandate_no, reference)
        if refund is None:
            return None
    if refund is not None:
        reference = refund["reference"]
    credit = await _first(connection, payment_credits, mandate_no, "reference", reference)
    recharge = await _first(connection, recharges, mandate_no, "cause", reference)
    return Payment(reference, credit, refund, recharge)


async def _budget_refund(connection: AsyncConnection, mandate_no: int, refund_id: str) -> sa.RowMapping | None:
    """A refund of a subscription's payment, with what it has taken of the budget of its period, in micro-CHF."""
    kept, moved = budget_refunds.c, budget_movements.c
    of_refund = (moved.mandate_no == mandate_no, moved.reference == refund_id, moved.amount < 0)
    taken = sa.select(sa.func.coalesce(-sa.func.sum(moved.amount), 0)).where(*of_refund).scalar_subquery()
    shown = (
        kept.refund_id,
        kept.reference,
        sa.cast(taken, sa.BigInteger).label("amount"),
        kept.noted_at.label("refunded_at"),
    )
    read = sa.select(*shown).where(kept.mandate_no == mandate_no, kept.refund_id == refund_id)
    return (await connection.execute(read)).mappings().one_or_none()


async def _first(
    connection: AsyncConnection, table: sa.Table, mandate_no: int, column: str, value: str
) -> sa.RowMapping | None:
    """A row of a mandate that has the value in a column, always the same one where there are several."""
    read = sa.select(table).where(table.c.mandate_no == mandate_no, table.c[column] == value)
    ordered = read.order_by(*table.primary_key.columns).limit(1)
    return (await connection.execute(ordered)).mappings().one_or_none()
