"""GET /api/billing/invoices, /api/billing/invoices/{invoiceId}, /api/billing/invoices/{invoiceId}/pdf."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Query, Request, Response
from pydantic import WithJsonSchema
from pydantic_core import PydanticCustomError

from rappen_contracts.types import parse_uuid
from services.billing.http import Context, router
from services.billing.invoices.bodies import Invoice, InvoicePage
from services.billing.invoices.errors import InvoiceUnknown
from services.billing.invoices.give_document import Printer, give_document
from services.billing.invoices.queries import InvoiceScope, list_invoices, show_invoice
from services.billing.parameters import IdOf, IntegerOf, TextOf
from services.chassis.bodies import IDENTIFIER_SCHEMA
from services.chassis.caller import CurrentCaller, require_person
from services.chassis.operations import Access, operation
from services.chassis.requests import language_of
from services.chassis.state import of_state

__all__ = ["api"]

_UUID_SCHEMA = {"type": "string", "format": "uuid"}
InvoiceId = Annotated[str, Path(alias="invoiceId"), WithJsonSchema(_UUID_SCHEMA)]
CurrentPrinter = Annotated[Printer, of_state("printer")]

api = router()


@api.get(
    "/api/billing/invoices",
    dependencies=[Depends(require_person)],
    **operation(
        "billing-list-invoices",
        "The invoices of the mandates that the caller administers, or of one of them, the newest first.",
        access=Access.PERSON,
        answer=InvoicePage,
        refuses=(400, 404, 422),
    ),
)
async def get_invoices(
    context: Context,
    caller: CurrentCaller,
    mandate_id: Annotated[str | None, Query(alias="mandateId"), WithJsonSchema(IDENTIFIER_SCHEMA)] = None,
    cursor: Annotated[str | None, Query(), TextOf("cursor")] = None,
    limit: Annotated[int, Query(), IntegerOf("limit", least=1, most=1000)] = 100,
) -> dict[str, Any]:
    named = None if mandate_id is None else IdOf("mandateId").read(mandate_id)
    scope = InvoiceScope.of(caller, named)
    return await list_invoices(context.database, scope, cursor=cursor, limit=limit)


@api.get(
    "/api/billing/invoices/{invoiceId}",
    dependencies=[Depends(require_person)],
    **operation(
        "billing-get-invoice",
        "An invoice with its lines.",
        access=Access.PERSON,
        answer=Invoice,
        refuses=(404, 422),
    ),
)
async def get_invoice(context: Context, caller: CurrentCaller, invoice_id: InvoiceId) -> dict[str, Any]:
    return await show_invoice(context.database, InvoiceScope.of(caller), _invoice(invoice_id))


def _pdf_operation() -> dict[str, Any]:
    """The operation whose answer is no JSON."""
    described = operation(
        "billing-get-invoice-pdf",
        "An invoice as a PDF with its QR-bill, and the same as Factur-X inside; in the language asked for.",
        access=Access.PERSON,
        limit=20,
        answer=None,
        refuses=(404, 422, 503),
    )
    binary = {"application/pdf": {"schema": {"type": "string", "format": "binary"}}}
    described["responses"][200] = {"description": "OK", "content": binary}
    return described


@api.get(
    "/api/billing/invoices/{invoiceId}/pdf",
    dependencies=[Depends(require_person)],
    response_class=Response,
    **_pdf_operation(),
)
async def get_invoice_pdf(
    request: Request, context: Context, caller: CurrentCaller, printer: CurrentPrinter, invoice_id: InvoiceId
) -> Response:
    asked = language_of(request) if "accept-language" in request.headers else None
    given = await give_document(
        context.database,
        InvoiceScope.of(caller),
        _invoice(invoice_id),
        language=asked,
        printer=printer,
        clock=context.clock,
    )
    return Response(
        given.content,
        media_type="application/pdf",
        headers={"Content-Disposition": f'attachment; filename="{given.file_name}"'},
    )


def _invoice(text: str) -> UUID:
    try:
        return parse_uuid(text)
    except PydanticCustomError:
        raise InvoiceUnknown from None
