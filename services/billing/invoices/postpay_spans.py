"""When a mandate is in CREDIT_POSTPAY, as a switch of its billing model says; leaving it issues an invoice."""

from datetime import date, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.invoices.issue_invoice import Closing, issue_invoice
from services.billing.invoices.repository import (
    end_span,
    first_row,
    insert_span,
    read_last_invoice,
    read_open_span,
    read_pool,
)
from services.billing.invoices.usage import Rows, read_usage
from services.billing.mandates.repository import LockedMandate
from services.billing.settings import InvoiceSettings

__all__ = ["PostpaySpans"]


class PostpaySpans:
    """Follows a switch in its transaction, which has locked the mandate."""

    def __init__(self, settings: InvoiceSettings) -> None:
        self._settings = settings

    async def begin(self, connection: AsyncConnection, mandate: LockedMandate, *, now: datetime) -> None:
        """From here on the rows of the pool are asked for by invoices."""
        pool = await read_pool(connection, mandate.no)
        await insert_span(connection, mandate.no, 0 if pool is None else pool.seq, now=now)

    async def end(self, connection: AsyncConnection, mandate: LockedMandate, *, now: datetime) -> None:
        """Closes the period with an invoice of all that no invoice has asked for yet, whatever its day."""
        span, pool = await read_open_span(connection, mandate.no), await read_pool(connection, mandate.no)
        if span is None or pool is None:
            return
        last = await read_last_invoice(connection, mandate.no, span)
        rows = Rows(mandate.no, pool.no, first_row(last, span.from_seq), pool.seq, date.max, last)
        usage = await read_usage(connection, rows)
        today = mandate.calendar.day(now)
        start = max(today.replace(day=1), mandate.calendar.day(span.opened_at))
        closing = Closing(start, today, pool.seq, date.max, "SWITCH")
        await issue_invoice(connection, mandate, closing, usage, pool=pool, last=last, settings=self._settings, now=now)
        await end_span(connection, mandate.no, pool.seq, now=now)
