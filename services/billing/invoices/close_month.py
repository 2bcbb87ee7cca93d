"""Closing a month of CREDIT_POSTPAY: what was used in it becomes an invoice."""

from datetime import date, timedelta

from services.billing.invoices.issue_invoice import Closing, issue_invoice
from services.billing.invoices.repository import (
    LastInvoice,
    first_row,
    mark_closed,
    read_last_invoice,
    read_open_span,
    read_pool,
)
from services.billing.invoices.usage import PoolUsage, Rows, read_usage
from services.billing.mandates.repository import lock_mandate
from services.billing.settings import InvoiceSettings
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints

__all__ = ["close_month"]


async def close_month(
    database: Database,
    mandate_no: int,
    month: date,
    *,
    settings: InvoiceSettings,
    clock: Clock,
    faults: FaultPoints,
) -> bool:
    """Closes the month that begins with a day, unless it was closed before or the mandate has left CREDIT_POSTPAY; says
    whether it did. Whoever comes second finds it closed under the lock of the mandate."""
    through = _last_day(month)
    read = await _read_ahead(database, mandate_no, through)
    now = clock()
    async with database.transaction() as connection:
        mandate = await lock_mandate(connection, mandate_no)
        span, pool = await read_open_span(connection, mandate_no), await read_pool(connection, mandate_no)
        if span is None or pool is None or (span.closed_through is not None and span.closed_through >= through):
            return False
        last = await read_last_invoice(connection, mandate_no, span)
        usage, after = read.for_(last, span.from_seq)
        rows = Rows(mandate_no, pool.no, after, pool.seq, through, last)
        usage = usage.plus(await read_usage(connection, rows))
        begins = max(month, mandate.calendar.day(span.opened_at))
        closing = Closing(begins, through, pool.seq, through, "MONTH")
        await issue_invoice(connection, mandate, closing, usage, pool=pool, last=last, settings=settings, now=now)
        await mark_closed(connection, mandate_no, through)
        faults.reach("invoice_before_commit")
    faults.reach("invoice_after_commit")
    return True


class _ReadAhead:
    """What was read before the lock, after which invoice and up to which row."""

    def __init__(self, last: LastInvoice | None, usage: PoolUsage, up_to_seq: int) -> None:
        self._last = last
        self._usage = usage
        self._up_to_seq = up_to_seq

    def for_(self, last: LastInvoice, from_seq: int) -> tuple[PoolUsage, int]:
        """What counts of it after this invoice, and the row after which the rest is to be read."""
        if last == self._last:
            return self._usage, self._up_to_seq
        return _NOTHING, first_row(last, from_seq)


_NOTHING = PoolUsage({}, 2**62)


async def _read_ahead(database: Database, mandate_no: int, through: date) -> _ReadAhead:
    async with database.reading() as connection:
        # The pool first: what is committed up to its last row stays as it is.
        pool, span = await read_pool(connection, mandate_no), await read_open_span(connection, mandate_no)
        if span is None or pool is None:
            return _ReadAhead(None, _NOTHING, 0)
        last = await read_last_invoice(connection, mandate_no, span)
        rows = Rows(mandate_no, pool.no, first_row(last, span.from_seq), pool.seq, through, last)
        return _ReadAhead(last, await read_usage(connection, rows), pool.seq)


def _last_day(month: date) -> date:
    return (month.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
