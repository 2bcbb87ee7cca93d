"""The invoice of a month of a mandate with many usage rows, as the job issues it."""

import time
from dataclasses import dataclass

from services.billing.invoices.close_month import close_month
from services.chassis.clock import system_clock
from services.chassis.faults import FaultPoints
from tests.bench.large_ledger import POSTPAID, month_before
from tests.bench.large_stack import LargeStack
from tests.support.databases import opened
from tests.support.invoicing import INVOICES
from tests.support.ledger import Books

__all__ = ["Invoiced", "invoice_large"]


@dataclass(frozen=True, slots=True)
class Invoiced:
    """An invoice: of so many usage rows, in so many lines; how long the closing of its month took."""

    rows: int
    lines: int
    seconds: float


async def invoice_large(stack: LargeStack) -> Invoiced:
    """Closes the month, and has the audit look at the invoice."""
    books = Books(stack.servers.admin_dsn)
    mandate_no = await books.value("SELECT no FROM mandates WHERE id = $1", POSTPAID)
    async with opened(stack.servers.dsn("billing"), pool_size=2) as database:
        begun = time.perf_counter()
        closed = await close_month(
            database,
            mandate_no,
            month_before(stack.now.date()),
            settings=INVOICES,
            clock=system_clock,
            faults=FaultPoints(None),
        )
        seconds = time.perf_counter() - begun
    if not closed:
        raise RuntimeError("the month was closed before")
    count = "SELECT count(*), coalesce(sum(count) FILTER (WHERE kind = 'USAGE'), 0)::bigint FROM invoice_lines"
    ((lines, rows),) = await books.fetch(count)
    await stack.require_order()
    return Invoiced(rows, lines, seconds)
