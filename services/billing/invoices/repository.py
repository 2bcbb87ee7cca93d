"""What invoices are made from, and their rows. Callers that write hold the mandate's lock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.invoices.domain import IssuedLine
from services.billing.tables import (
    accounts,
    directory_mandates,
    invoice_documents,
    invoice_lines,
    invoice_payments,
    invoice_series,
    invoices,
    mandates,
    postpay_spans,
    vat_rates,
)

__all__ = [
    "LastInvoice",
    "NewInvoice",
    "OpenSpan",
    "Pool",
    "end_span",
    "first_row",
    "insert_document",
    "insert_invoice",
    "insert_payment",
    "insert_span",
    "insert_vat_rate",
    "mark_closed",
    "next_number",
    "open_amount",
    "open_spans",
    "read_customer",
    "read_last_invoice",
    "read_open_span",
    "read_pool",
    "vat_rate_at",
]


class Pool(NamedTuple):
    """A mandate's pool as it stands: its balance and how much of it are grants (micro-CHF), and its last row."""

    no: int
    balance: int
    granted: int
    seq: int


class OpenSpan(NamedTuple):
    """The time in CREDIT_POSTPAY that a mandate is in: the pool's last row before it, and the last day of the newest
    month that was looked at."""

    from_seq: int
    opened_at: datetime
    closed_through: date | None


class LastInvoice(NamedTuple):
    """What the newest invoice of a mandate has: the pool's rows up to a row and a day. `carry` is what its rounding
    left over (micro-CHF), and `next_from_seq` the row before which the next one has none."""

    id: UUID | None
    up_to_seq: int
    through_day: date
    next_from_seq: int
    carry: int


def first_row(last: LastInvoice, from_seq: int) -> int:
    """The row after which those of the next invoice are: none of another model, and none that an invoice has."""
    return max(from_seq, last.next_from_seq - 1)


_NONE_YET = LastInvoice(None, 0, date.min, 0, 0)


@dataclass(frozen=True, slots=True)
class NewInvoice:
    """An invoice to be issued; amounts in micro-CHF."""

    id: UUID
    mandate_no: int
    series_year: int
    series_no: int
    number: str
    period_start: date
    period_end: date
    up_to_seq: int
    through_day: date
    next_from_seq: int
    cause: str
    issued_at: datetime
    due_at: datetime
    reference: str
    language: str
    seller: dict[str, Any]
    recipient: dict[str, Any]
    vat_country: str | None
    vat_percent: Decimal
    net: int
    vat: int
    total: int
    carry_before: int
    carry_after: int
    lines: Sequence[IssuedLine]


async def read_pool(connection: AsyncConnection, mandate_no: int) -> Pool | None:
    """The pool; None where it was not made yet."""
    columns = accounts.c
    read = sa.select(columns.no, columns.balance, columns.granted, columns.seq)
    row = (await connection.execute(read.where(columns.mandate_no == mandate_no, columns.type == "MANDATE"))).first()
    return None if row is None else Pool(*row)


async def read_open_span(connection: AsyncConnection, mandate_no: int) -> OpenSpan | None:
    """The span that a mandate is in; None outside CREDIT_POSTPAY."""
    columns = postpay_spans.c
    read = sa.select(columns.from_seq, columns.opened_at, columns.closed_through)
    row = (await connection.execute(read.where(columns.mandate_no == mandate_no, columns.to_seq.is_(None)))).first()
    return None if row is None else OpenSpan(*row)


async def open_spans(connection: AsyncConnection, closed_before: date) -> Sequence[sa.RowMapping]:
    """The mandates in CREDIT_POSTPAY of which no month was looked at that ends on this day or later, with what makes
    their calendars."""
    columns = postpay_spans.c
    read = sa.select(
        columns.mandate_no, columns.opened_at, columns.closed_through, mandates.c.time_zone, mandates.c.past_time_zones
    ).select_from(postpay_spans.join(mandates, mandates.c.no == columns.mandate_no))
    waiting = sa.or_(columns.closed_through.is_(None), columns.closed_through < closed_before)
    found = await connection.execute(read.where(columns.to_seq.is_(None), waiting).order_by(columns.mandate_no))
    return found.mappings().all()


async def insert_span(connection: AsyncConnection, mandate_no: int, from_seq: int, *, now: datetime) -> None:
    """Notes that the pool's rows after this one are asked for by invoices. One that ended without a row goes on."""
    span = insert(postpay_spans).values(mandate_no=mandate_no, from_seq=from_seq, opened_at=now)
    again = {"to_seq": None, "closed_at": None, "closed_through": None, "opened_at": now}
    key = [postpay_spans.c.mandate_no, postpay_spans.c.from_seq]
    await connection.execute(span.on_conflict_do_update(index_elements=key, set_=again))


async def end_span(connection: AsyncConnection, mandate_no: int, to_seq: int, *, now: datetime) -> None:
    """Notes that the pool's rows after this one are not asked for any more."""
    columns = postpay_spans.c
    of_mandate = sa.and_(columns.mandate_no == mandate_no, columns.to_seq.is_(None))
    await connection.execute(sa.update(postpay_spans).where(of_mandate).values(to_seq=to_seq, closed_at=now))


async def mark_closed(connection: AsyncConnection, mandate_no: int, through: date) -> None:
    """Notes that the month that ends with this day was looked at."""
    columns = postpay_spans.c
    of_mandate = sa.and_(columns.mandate_no == mandate_no, columns.to_seq.is_(None))
    await connection.execute(sa.update(postpay_spans).where(of_mandate).values(closed_through=through))


async def read_last_invoice(connection: AsyncConnection, mandate_no: int, span: OpenSpan) -> LastInvoice:
    """The newest invoice of a mandate, or what stands for it before there is one."""
    columns = invoices.c
    # What rounding left over before the model was switched stays in the balance, and is on no further invoice.
    carry = sa.case((columns.up_to_seq > span.from_seq, columns.carry_after), else_=0)
    read = sa.select(columns.id, columns.up_to_seq, columns.through_day, columns.next_from_seq, carry)
    newest = read.where(columns.mandate_no == mandate_no).order_by(columns.up_to_seq.desc(), columns.through_day.desc())
    row = (await connection.execute(newest.limit(1))).first()
    return _NONE_YET if row is None else LastInvoice(*row)


async def open_amount(connection: AsyncConnection, mandate_no: int) -> int:
    """What of all invoices of a mandate is not paid yet (micro-CHF); what was paid too much of one counts for none."""
    paid = sa.select(invoice_payments.c.invoice_id, sa.func.sum(invoice_payments.c.amount).label("paid"))
    of_each = paid.where(invoice_payments.c.mandate_no == mandate_no).group_by(invoice_payments.c.invoice_id).subquery()
    missing = invoices.c.total - sa.func.coalesce(of_each.c.paid, 0)
    read = sa.select(sa.func.coalesce(sa.func.sum(sa.func.greatest(missing, 0)), 0)).select_from(
        invoices.outerjoin(of_each, of_each.c.invoice_id == invoices.c.id)
    )
    found: Decimal = (await connection.execute(read.where(invoices.c.mandate_no == mandate_no))).scalar_one()
    return int(found)


async def read_customer(connection: AsyncConnection, mandate_no: int) -> sa.RowMapping:
    """The billing address of a mandate, and what it is called where it has none."""
    named = mandates.outerjoin(directory_mandates, directory_mandates.c.id == mandates.c.id)
    columns = (mandates.c.id, mandates.c.billing_address, directory_mandates.c.label, directory_mandates.c.name)
    read = sa.select(*columns).select_from(named).where(mandates.c.no == mandate_no)
    return (await connection.execute(read)).mappings().one()


async def vat_rate_at(connection: AsyncConnection, country: str, day: date) -> Decimal | None:
    """The VAT in percent of a country on a day; None where there is none."""
    columns = vat_rates.c
    read = sa.select(columns.percent).where(columns.country == country, columns.valid_from <= day)
    rate: Decimal | None = await connection.scalar(read.order_by(columns.valid_from.desc()).limit(1))
    return rate


async def insert_vat_rate(connection: AsyncConnection, country: str, valid_from: date, percent: Decimal) -> bool:
    """Adds a rate; False where the country has one from that day on already."""
    row = insert(vat_rates).values(country=country, valid_from=valid_from, percent=percent).on_conflict_do_nothing()
    return (await connection.execute(row.returning(vat_rates.c.country))).first() is not None


async def next_number(connection: AsyncConnection, year: int) -> int:
    """The next number of a year. Others wait for it until this transaction is over, and get the same one where it is
    rolled back: so there is no gap."""
    first = insert(invoice_series).values(year=year, last=1)
    counted = first.on_conflict_do_update(
        index_elements=[invoice_series.c.year], set_={"last": invoice_series.c.last + 1}
    )
    number: int = (await connection.execute(counted.returning(invoice_series.c.last))).scalar_one()
    return number


async def insert_invoice(connection: AsyncConnection, invoice: NewInvoice) -> None:
    """Issues an invoice for good."""
    names = [name for name in NewInvoice.__slots__ if name != "lines"]
    await connection.execute(sa.insert(invoices).values(**{name: getattr(invoice, name) for name in names}))
    rows = [
        {
            "invoice_id": invoice.id,
            "position": position,
            **{name: getattr(line.draft, name) for name in line.draft.__slots__},
            "amount": line.amount,
            "net": line.net,
        }
        for position, line in enumerate(invoice.lines, 1)
    ]
    if rows:
        await connection.execute(sa.insert(invoice_lines), rows)


async def insert_payment(
    connection: AsyncConnection,
    mandate_no: int,
    event_id: UUID,
    invoice_id: UUID,
    *,
    amount: int,
    paid_at: datetime,
    now: datetime,
) -> bool:
    """Notes what was paid of an invoice of the mandate, under the id of the payment's credit; False where the mandate
    has no such invoice."""
    columns = invoices.c
    of_mandate = sa.select(
        columns.mandate_no,
        sa.literal(event_id, sa.Uuid),
        columns.id,
        sa.literal(amount, sa.BigInteger),
        sa.literal(paid_at, sa.DateTime(timezone=True)),
        sa.literal(now, sa.DateTime(timezone=True)),
    ).where(columns.mandate_no == mandate_no, columns.id == invoice_id)
    names = ["mandate_no", "event_id", "invoice_id", "amount", "paid_at", "recorded_at"]
    row = sa.insert(invoice_payments).from_select(names, of_mandate).returning(invoice_payments.c.invoice_id)
    return (await connection.execute(row)).first() is not None


async def insert_document(
    connection: AsyncConnection, invoice_id: UUID, language: str, content: bytes, *, now: datetime
) -> None:
    """Keeps a document for good, unless there is one already."""
    row = insert(invoice_documents).values(invoice_id=invoice_id, language=language, content=content, made_at=now)
    await connection.execute(row.on_conflict_do_nothing())
