"""Gives a monthly invoice a twin at Stripe, by which it can be paid; the invoice itself is billing's."""

from decimal import Decimal
from math import ceil

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.billing.v1 import InvoiceIssued
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.payments.customers.ensure_customer import EnsureCustomer
from services.payments.invoices.repository import (
    KnownInvoice,
    add_invoice,
    save_hosted_url,
    save_stripe_invoice,
)
from services.payments.requests.domain import StoredRequest
from services.payments.requests.process_requests import Done
from services.payments.stripe.errors import StripeNotConfigured
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.invoices import InvoiceOrder, complete_invoice, draft_invoice, read_invoice

__all__ = ["MirrorInvoice"]

SECONDS_PER_DAY = 86_400
# The least and the most (CHF) that Stripe can be paid at once. An invoice of less or more it calls paid, and adds it to
# its next one of the customer, whatever that is for.
PAYABLE_MIN, PAYABLE_MAX = Decimal("0.50"), Decimal("999999.99")


class MirrorInvoice:
    """The work of invoice.issued. Without a configured Stripe there is nothing to do."""

    def __init__(
        self, database: Database, stripe: StripeGateway, ensure_customer: EnsureCustomer, *, clock: Clock
    ) -> None:
        self._database = database
        self._stripe = stripe
        self._ensure_customer = ensure_customer
        self._clock = clock

    async def perform(self, request: StoredRequest) -> Done:
        """Makes it at Stripe, unless it was made before."""
        issued = InvoiceIssued.model_validate_json(request.data)
        if issued.total.amount == 0:
            return Done("NOTHING_TO_PAY")
        if not PAYABLE_MIN <= issued.total.amount <= PAYABLE_MAX:
            return Done("NOT_PAYABLE")
        try:
            return await self._mirror(request, issued)
        except StripeNotConfigured:
            return Done("NOT_CONFIGURED")

    def expired(self, request: StoredRequest) -> Done:
        """An invoice does not expire."""
        return Done("EXPIRED")

    async def _mirror(self, request: StoredRequest, issued: InvoiceIssued) -> Done:
        customer_id = await self._ensure_customer(issued.mandate_id)
        order, key = _order(issued, customer_id), request.key("invoice")
        async with self._database.transaction() as connection:
            known = await add_invoice(connection, _known(issued), self._clock())
        stripe_invoice_id = known.stripe_invoice_id
        if stripe_invoice_id is None:
            stripe_invoice_id = await draft_invoice(self._stripe, order, idempotency_key=key)
            # Before it can be paid, so that no event of Stripe's can come before its record.
            async with self._database.transaction() as connection:
                await save_stripe_invoice(connection, issued.invoice_id, stripe_invoice_id)
        invoice = await read_invoice(self._stripe, stripe_invoice_id)
        if invoice.status == "draft":
            invoice = await complete_invoice(self._stripe, stripe_invoice_id, order, idempotency_key=key)

        async def write(connection: AsyncConnection) -> None:
            await save_hosted_url(connection, issued.invoice_id, invoice.hosted_url)

        return Done("MIRRORED", write)


def _order(issued: InvoiceIssued, customer_id: str) -> InvoiceOrder:
    """From the event alone, so that a repeat sends Stripe the same."""
    days = ceil((issued.due_at - issued.issued_at).total_seconds() / SECONDS_PER_DAY)
    return InvoiceOrder(
        invoice_id=issued.invoice_id,
        mandate_id=issued.mandate_id,
        customer_id=customer_id,
        number=issued.number,
        net=issued.total.amount - issued.vat.amount,
        vat=issued.vat.amount,
        vat_percent=issued.vat_percent,
        currency=issued.total.currency,
        days_until_due=max(0, days),
        language=issued.language,
    )


def _known(issued: InvoiceIssued) -> KnownInvoice:
    return KnownInvoice(
        invoice_id=issued.invoice_id,
        mandate_id=issued.mandate_id,
        number=issued.number,
        total=issued.total.amount,
        currency=issued.total.currency,
        stripe_invoice_id=None,
        hosted_url=None,
    )
