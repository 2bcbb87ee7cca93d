"""Settling an invoice: what was paid of it, in the transaction that credits the payment."""

from datetime import datetime
from uuid import UUID

from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.types import parse_uuid
from services.billing.invoices.repository import insert_payment
from services.chassis.logging import get_logger

__all__ = ["settle_invoice"]

_log = get_logger(__name__)


async def settle_invoice(
    connection: AsyncConnection,
    mandate_no: int,
    event_id: UUID,
    reference: str,
    *,
    amount: int,
    paid_at: datetime,
    now: datetime,
) -> None:
    """Notes what was paid (micro-CHF, below zero where it went back) of the invoice that the reference names.

    More or less than it asks for is noted as it is: what is missing stays open, what is too much stays on the pool and
    is deducted from the next invoice. Money for an invoice that the mandate does not have is credited all the same.
    """
    try:
        invoice_id = parse_uuid(reference)
    except PydanticCustomError:
        invoice_id = None
    known = invoice_id is not None and await insert_payment(
        connection, mandate_no, event_id, invoice_id, amount=amount, paid_at=paid_at, now=now
    )
    if not known:
        _log.warning("payment of an unknown invoice", mandate_no=mandate_no, reference=reference)
