"""Monthly invoices as Stripe has them, each statement in the caller's transaction."""

from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.invoices.tables import invoices

__all__ = ["KnownInvoice", "add_invoice", "lock_invoice_of", "save_hosted_url", "save_stripe_invoice"]


@dataclass(frozen=True, slots=True)
class KnownInvoice:
    """A row of invoices, less its time."""

    invoice_id: UUID
    mandate_id: str
    number: str
    total: Decimal
    currency: str
    stripe_invoice_id: str | None
    hosted_url: str | None


_COLUMNS = [invoices.c[name] for name in KnownInvoice.__dataclass_fields__]


async def add_invoice(connection: AsyncConnection, invoice: KnownInvoice, now: datetime) -> KnownInvoice:
    """Adds an invoice, or gives the one that is there."""
    await connection.execute(
        insert(invoices).values(**asdict(invoice), created_at=now).on_conflict_do_nothing(index_elements=["invoice_id"])
    )
    query = sa.select(*_COLUMNS).where(invoices.c.invoice_id == invoice.invoice_id)
    return KnownInvoice(*(await connection.execute(query)).one())


async def lock_invoice_of(connection: AsyncConnection, stripe_invoice_id: str) -> KnownInvoice | None:
    """The invoice of that id of Stripe's, held until the end of the transaction."""
    query = sa.select(*_COLUMNS).where(invoices.c.stripe_invoice_id == stripe_invoice_id).with_for_update()
    row = (await connection.execute(query)).first()
    return None if row is None else KnownInvoice(*row)


async def save_stripe_invoice(connection: AsyncConnection, invoice_id: UUID, stripe_invoice_id: str) -> None:
    """Notes the invoice that Stripe made."""
    await connection.execute(
        sa.update(invoices)
        .where(invoices.c.invoice_id == invoice_id, invoices.c.stripe_invoice_id.is_(None))
        .values(stripe_invoice_id=stripe_invoice_id)
    )


async def save_hosted_url(connection: AsyncConnection, invoice_id: UUID, url: str | None) -> None:
    """Notes where it is paid."""
    await connection.execute(sa.update(invoices).where(invoices.c.invoice_id == invoice_id).values(hosted_url=url))
