"""Reads of invoices within a caller's scope: those of the mandates that they administer."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.errors import MalformedParameter
from services.billing.invoices.domain import payment_state
from services.billing.invoices.errors import InvoiceUnknown
from services.billing.mandates.errors import MandateUnknown
from services.billing.mandates.queries import mandate_exists
from services.billing.money import money_json, plain
from services.billing.tables import (
    invoice_documents,
    invoice_lines,
    invoice_payments,
    invoices,
    mandates,
    vat_rates,
)
from services.chassis.caller import Caller
from services.chassis.database import Database
from services.chassis.lists.cursors import cursor_of, read_cursor
from services.chassis.lists.errors import PaginationFault
from services.chassis.lists.order import Term, behind
from services.chassis.statements import one_of

__all__ = [
    "InvoiceScope",
    "find_invoice",
    "list_invoices",
    "list_vat_rates",
    "read_document",
    "read_lines",
    "show_invoice",
]


@dataclass(frozen=True, slots=True, eq=False)
class InvoiceScope:
    """Whose invoices a caller may see, as a condition; `named` is the one mandate that was asked for."""

    mandates: sa.ColumnElement[bool]
    named: str | None = None

    @classmethod
    def of(cls, caller: Caller, mandate_id: str | None = None) -> "InvoiceScope":
        """All for a system administrator, else those of the mandates that the caller administers; of one mandate, where
        it is named."""
        if mandate_id is not None:
            caller.require_admin(mandate_id)
            return cls(mandates.c.id == mandate_id, mandate_id)
        if caller.system_admin:
            return cls(sa.true())
        administered = [mandate for mandate, admin in caller.mandates.items() if admin]
        return cls(one_of(mandates.c.id, sorted(administered)))


_PAID = (
    sa.select(sa.func.coalesce(sa.func.sum(invoice_payments.c.amount), 0))
    .where(invoice_payments.c.invoice_id == invoices.c.id)
    .scalar_subquery()
)
_LAST_PAID = (
    sa.select(sa.func.max(invoice_payments.c.paid_at))
    .where(invoice_payments.c.invoice_id == invoices.c.id)
    .scalar_subquery()
)
_INVOICES = sa.select(
    invoices, mandates.c.id.label("mandate_id"), _PAID.label("paid"), _LAST_PAID.label("last_paid_at")
).select_from(invoices.join(mandates, mandates.c.no == invoices.c.mandate_no))

# The name of the list in its cursors, and its order; of a type that holds whatever number a cursor names.
_LIST = "invoices"
_NEWEST_FIRST = [
    Term(sa.type_coerce(number, sa.BigInteger), descending=True)
    for number in (invoices.c.series_year, invoices.c.series_no)
]


async def list_invoices(database: Database, scope: InvoiceScope, *, cursor: str | None, limit: int) -> dict[str, Any]:
    """A part of the invoices of the scope, the newest first, from the cursor on."""
    read = _INVOICES.where(scope.mandates)
    if cursor is not None:
        read = read.where(behind(_NEWEST_FIRST, _place(cursor)))
    newest = read.order_by(*(term.ordered for term in _NEWEST_FIRST)).limit(limit + 1)
    async with database.reading() as connection:
        if scope.named is not None and not await mandate_exists(connection, scope.named):
            raise MandateUnknown
        rows = (await connection.execute(newest)).mappings().all()
    more = len(rows) > limit
    place = [rows[limit - 1][name] for name in ("series_year", "series_no")] if more else []
    return {
        "items": [_invoice_json(row) for row in rows[:limit]],
        "nextCursor": cursor_of(_LIST, place) if more else None,
    }


def _place(cursor: str) -> list[Any]:
    try:
        return read_cursor(cursor, _LIST, [term.value.type for term in _NEWEST_FIRST])
    except PaginationFault as fault:
        raise MalformedParameter("cursor", **fault.texts) from None


async def show_invoice(database: Database, scope: InvoiceScope, invoice_id: UUID) -> dict[str, Any]:
    """An invoice of the scope with its lines; 404 for any other, whether or not there is one."""
    async with database.reading() as connection:
        row = await find_invoice(connection, scope, invoice_id)
        lines = await read_lines(connection, invoice_id)
    return {**_invoice_json(row), "lines": [_line_json(line) for line in lines]}


async def find_invoice(connection: AsyncConnection, scope: InvoiceScope, invoice_id: UUID) -> sa.RowMapping:
    """The row of an invoice of the scope, or 404."""
    read = _INVOICES.where(invoices.c.id == invoice_id, scope.mandates)
    row = (await connection.execute(read)).mappings().one_or_none()
    if row is None:
        raise InvoiceUnknown
    return row


async def read_lines(connection: AsyncConnection, invoice_id: UUID) -> list[sa.RowMapping]:
    """The lines of an invoice, in their order."""
    columns = invoice_lines.c
    read = sa.select(invoice_lines).where(columns.invoice_id == invoice_id).order_by(columns.position)
    return list((await connection.execute(read)).mappings())


async def read_document(connection: AsyncConnection, invoice_id: UUID, language: str) -> bytes | None:
    """The document of an invoice, if one was given out in that language."""
    columns = invoice_documents.c
    read = sa.select(columns.content).where(columns.invoice_id == invoice_id, columns.language == language)
    content: bytes | None = await connection.scalar(read)
    return content


async def list_vat_rates(database: Database) -> list[tuple[str, date, Decimal]]:
    """All rates of VAT: country, first day, percent."""
    columns = vat_rates.c
    read = sa.select(columns.country, columns.valid_from, columns.percent)
    async with database.reading() as connection:
        rows = await connection.execute(read.order_by(columns.country, columns.valid_from))
        return [(row.country, row.valid_from, row.percent) for row in rows]


def _invoice_json(row: sa.RowMapping) -> dict[str, Any]:
    total, paid = row["total"], int(row["paid"])
    state = payment_state(total, paid)
    settled = row["issued_at"] if total == 0 and not paid else row["last_paid_at"]
    return {
        "id": str(row["id"]),
        "mandateId": row["mandate_id"],
        "number": row["number"],
        "periodStart": row["period_start"].isoformat(),
        "periodEnd": row["period_end"].isoformat(),
        "cause": row["cause"],
        "issuedAt": row["issued_at"],
        "dueAt": row["due_at"],
        "reference": row["reference"],
        "language": row["language"],
        "seller": _party_json(row["seller"]),
        "recipient": _party_json(row["recipient"]),
        "vatPercent": plain(row["vat_percent"]),
        "net": money_json(row["net"]),
        "vat": money_json(row["vat"]),
        "total": money_json(total),
        "carryBefore": money_json(row["carry_before"]),
        "carryAfter": money_json(row["carry_after"]),
        "paid": money_json(paid),
        "open": money_json(max(total - paid, 0)),
        "state": state,
        "paidAt": settled if state in ("PAID", "OVERPAID") else None,
    }


def _party_json(party: dict[str, Any]) -> dict[str, Any]:
    return {
        "company": party.get("company") or party.get("name"),
        "street": party["street"],
        "zip": party["zip"],
        "city": party["city"],
        "country": party["country"],
        "vatNumber": party["vat_number"],
    }


def _line_json(row: sa.RowMapping) -> dict[str, Any]:
    return {
        "position": row["position"],
        "kind": row["kind"],
        "firstDay": row["first_day"].isoformat(),
        "lastDay": row["last_day"].isoformat(),
        "provider": row["provider"],
        "model": row["model"],
        "featureCode": row["feature_code"],
        "featureInstanceId": row["feature_instance_id"],
        "count": row["count"],
        "cost": money_json(row["cost"]),
        "amount": money_json(row["amount"]),
        "net": money_json(row["net"]),
    }
