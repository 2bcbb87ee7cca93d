"""The PDF of an invoice: made when it is first asked for, and from then on the bytes that were given out."""

import asyncio
from typing import NamedTuple
from uuid import UUID

from services.billing.invoices.document import Document, document_of
from services.billing.invoices.queries import InvoiceScope, find_invoice, read_document, read_lines
from services.billing.invoices.repository import insert_document
from services.billing.invoices.texts import TEXTS
from services.billing.ledger.calendars import DEFAULT_ZONE, period_day
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.problems import Unavailable

__all__ = ["Given", "Printer", "give_document"]

# Documents that wait to be made; further ones are told to come again.
WAITING_MAX = 20
TRY_AGAIN_S = 5


class Printer:
    """Makes documents beside the event loop, one after the other, so that however many are asked for, they leave the
    process its time for other answers."""

    def __init__(self) -> None:
        self._one = asyncio.Semaphore(1)
        self._waiting = 0

    async def print(self, document: Document) -> bytes:
        """The document; 503 where too many wait already."""
        if self._waiting >= WAITING_MAX:
            raise Unavailable(headers={"Retry-After": str(TRY_AGAIN_S)})
        self._waiting += 1
        try:
            async with self._one:
                return await asyncio.to_thread(_made, document)
        finally:
            self._waiting -= 1


def _made(document: Document) -> bytes:
    # A process that nobody asks for a document does not need the memory for what makes one.
    from services.billing.invoices.einvoice import with_einvoice  # noqa: PLC0415
    from services.billing.invoices.pdf import draw_invoice  # noqa: PLC0415

    return with_einvoice(document, draw_invoice(document))


class Given(NamedTuple):
    """A document and the name of its file."""

    content: bytes
    file_name: str


async def give_document(
    database: Database,
    scope: InvoiceScope,
    invoice_id: UUID,
    *,
    language: str | None,
    printer: Printer,
    clock: Clock,
) -> Given:
    """The PDF of an invoice of the scope in a language, else in its own; 404 for any other invoice."""
    async with database.reading() as connection:
        row = await find_invoice(connection, scope, invoice_id)
        tongue = language or row["language"]
        known = await read_document(connection, invoice_id, tongue)
        lines = [] if known is not None else await read_lines(connection, invoice_id)
    file_name = f"{TEXTS[tongue]['file']}-{row['number']}.pdf"
    if known is not None:
        return Given(known, file_name)
    issued, due = (period_day(row[name], DEFAULT_ZONE) for name in ("issued_at", "due_at"))
    content = await printer.print(document_of(row, lines, tongue, issued_on=issued, due_on=due))
    async with database.transaction() as connection:
        await insert_document(connection, invoice_id, tongue, content, now=clock())
        # Where two were made at once, the first is the one.
        return Given(await read_document(connection, invoice_id, tongue) or content, file_name)
