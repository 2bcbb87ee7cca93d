"""Issuing an invoice: what it asks for, its number, its rows and its event, in the caller's transaction."""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.invoices.domain import (
    MICROS_OF_A_RAPPEN,
    Draft,
    DraftLine,
    LineKind,
    applied_credit,
    brought_forward,
    draft_totals,
    invoice_number,
    is_qr_iban,
    payment_reference,
    rounded_lines,
    unspent,
)
from services.billing.invoices.errors import NoSeller
from services.billing.invoices.publications import invoice_issued
from services.billing.invoices.repository import (
    LastInvoice,
    NewInvoice,
    Pool,
    insert_invoice,
    next_number,
    open_amount,
    read_customer,
    vat_rate_at,
)
from services.billing.invoices.usage import PoolUsage, draft_lines
from services.billing.ledger.calendars import DEFAULT_ZONE, period_day
from services.billing.ledger.domain import LEDGER_NAMESPACE
from services.billing.mandates.queries import display_name
from services.billing.mandates.repository import LockedMandate
from services.billing.money import to_micro
from services.billing.settings import InvoiceSettings
from services.chassis.outbox import append_outbox

__all__ = ["Closing", "issue_invoice"]


@dataclass(frozen=True, slots=True)
class Closing:
    """What is closed: the days that it is called by, and up to which row and day of the pool."""

    period_start: date
    period_end: date
    up_to_seq: int
    through_day: date
    cause: str


async def issue_invoice(
    connection: AsyncConnection,
    mandate: LockedMandate,
    closing: Closing,
    usage: PoolUsage,
    *,
    pool: Pool,
    last: LastInvoice,
    settings: InvoiceSettings,
    now: datetime,
) -> UUID | None:
    """Issues the invoice of what is due, and gives its id; None where nothing, or too little, is to be asked for. What
    is owed and on no invoice yet, as after a deduction by hand, is due too.

    What is too little waits for the next invoice. At a switch there is none, so anything from a Rappen on is asked for;
    but what is owed otherwise stays in the balance, because a top-up or a recharge would be asked for it as well.
    """
    draft = Draft(await draft_lines(connection, mandate.no, usage), last.carry)
    paid_balance, open_before = pool.balance - pool.granted, await open_amount(connection, mandate.no)
    left = unspent(paid_balance=paid_balance, later=usage.later, open_before=open_before, draft=draft)
    if closing.cause != "SWITCH" and (owed := brought_forward(left)):
        draft = replace(draft, lines=[_of_balance("BALANCE", closing, owed), *draft.lines])
    asked = draft_totals(draft, Decimal(0)).total
    used = sum(line.cost for line in draft.lines if line.kind in ("USAGE", "STORAGE", "CORRECTION"))
    if asked < 0 or not draft.lines or (asked == 0 and used < MICROS_OF_A_RAPPEN):
        return None
    credit = applied_credit(left, asked)
    if closing.cause != "SWITCH" and 0 < asked - credit < to_micro(settings.minimum_chf):
        return None
    if credit:
        draft = replace(draft, lines=[*draft.lines, _of_balance("CREDIT", closing, -credit)])
    invoice = await _invoice(connection, mandate, closing, usage=usage, draft=draft, settings=settings, now=now)
    await insert_invoice(connection, invoice)
    await append_outbox(connection, [invoice_issued(mandate, invoice)])
    return invoice.id


def _of_balance(kind: LineKind, closing: Closing, cost: int) -> DraftLine:
    """A line of the pool's balance, not of usage."""
    return DraftLine(kind, closing.period_start, closing.period_end, None, None, None, None, count=0, cost=cost)


async def _invoice(
    connection: AsyncConnection,
    mandate: LockedMandate,
    closing: Closing,
    *,
    usage: PoolUsage,
    draft: Draft,
    settings: InvoiceSettings,
    now: datetime,
) -> NewInvoice:
    """The invoice, with the next number."""
    seller = settings.seller
    if seller is None:
        raise NoSeller
    recipient = await _recipient(connection, mandate)
    country = recipient["country"]
    percent = await vat_rate_at(connection, country, closing.period_end)
    rate = Decimal(0) if percent is None else percent
    totals = draft_totals(draft, rate)
    year = period_day(now, DEFAULT_ZONE).year
    series_no = await next_number(connection, year)
    number = invoice_number(year, series_no)
    return NewInvoice(
        id=uuid5(LEDGER_NAMESPACE, f"invoice/{mandate.no}/{closing.up_to_seq}/{closing.through_day}"),
        mandate_no=mandate.no,
        series_year=year,
        series_no=series_no,
        number=number,
        period_start=closing.period_start,
        period_end=closing.period_end,
        up_to_seq=closing.up_to_seq,
        through_day=closing.through_day,
        next_from_seq=min(usage.next_from_seq, closing.up_to_seq + 1),
        cause=closing.cause,
        issued_at=now,
        due_at=now + timedelta(days=settings.due_after_days),
        reference=payment_reference(number, qr_iban=is_qr_iban(seller.iban)),
        language=settings.language,
        seller=seller.model_dump(),
        recipient=recipient,
        vat_country=None if percent is None else country,
        vat_percent=rate,
        net=totals.net,
        vat=totals.vat,
        total=totals.total,
        carry_before=draft.carry_before,
        carry_after=totals.carry_after,
        lines=rounded_lines(draft, rate),
    )


async def _recipient(connection: AsyncConnection, mandate: LockedMandate) -> dict[str, Any]:
    """Who the invoice is for, as it is then; a mandate without an address is at least named."""
    row = await read_customer(connection, mandate.no)
    address = row["billing_address"] or {}
    return {
        "company": address.get("company") or display_name(row["label"], row["name"], mandate.id),
        "street": address.get("street") or "",
        "zip": address.get("zip") or "",
        "city": address.get("city") or "",
        "country": address.get("country") or "CH",
        "vat_number": address.get("vatNumber") or address.get("vat_number"),
    }
