"""A monthly invoice as Stripe has it now: paid, it is a payment with the invoice as its reference. What the customer's
balance at Stripe paid of it is one of its own, without a payment intent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Self
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.logging import get_logger
from services.payments.checkouts.domain import Payment
from services.payments.checkouts.record_payment import record_payment, report_payment
from services.payments.customers.metrics import UNPLACED
from services.payments.customers.repository import find_mandate
from services.payments.invoices.repository import KnownInvoice, lock_invoice_of
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.invoices import intent_of_invoice
from services.payments.stripe.objects import Invoice

__all__ = ["InvoiceSettlement", "ObservedMonthlyInvoice"]

_NAMESPACE = UUID("0c3fd8e1-7ab4-5e96-8f25-b91d4c6a3e70")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InvoiceSettlement:
    """What became of an invoice; `payments` are those that are new."""

    outcome: str
    payments: Sequence[Payment] = ()
    unplaced_id: str | None = None

    def report(self) -> None:
        """Counts and logs what was paid, and what is of a customer of ours and of nothing that we know; called after
        the commit."""
        for payment in self.payments:
            report_payment(payment)
        if self.unplaced_id is not None:
            UNPLACED.labels("invoice").inc()
            _log.error("object of stripe cannot be placed", object_id=self.unplaced_id)


@dataclass(frozen=True, slots=True)
class ObservedMonthlyInvoice:
    """An invoice of no subscription."""

    invoice: Invoice
    intent_id: str | None

    @classmethod
    async def of(cls, stripe: StripeGateway, invoice: Invoice) -> Self:
        """With the payment that it was paid by."""
        paid = invoice.status == "paid"
        return cls(invoice, await intent_of_invoice(stripe, invoice.id) if paid else None)

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> InvoiceSettlement | None:
        """Records its payment in the caller's transaction; None when it is not ours."""
        invoice = self.invoice
        known = await lock_invoice_of(connection, invoice.id)
        if known is None:
            customer_id = invoice.customer_id
            ours = customer_id is not None and await find_mandate(connection, customer_id) is not None
            return InvoiceSettlement("UNPLACED", unplaced_id=invoice.id) if ours else None
        parts = [
            (uuid5(_NAMESPACE, invoice.id), invoice.amount_paid, self.intent_id),
            (uuid5(_NAMESPACE, f"{invoice.id}/balance"), invoice.credit_used, None),
        ]
        if self.intent_id is None:
            # Payments of an invoice are told apart by their intents, so what has none is one.
            parts = [(uuid5(_NAMESPACE, invoice.id), invoice.amount_paid + invoice.credit_used, None)]
        if invoice.status != "paid" or all(amount <= 0 for _, amount, _ in parts):
            return InvoiceSettlement((invoice.status or "unknown").upper())
        new = []
        for event_id, amount, intent_id in parts:
            if amount > 0:
                payment = _payment(known, invoice, event_id, amount, intent_id, cause=cause, now=now)
                recorded, is_new = await record_payment(connection, payment)
                new += [recorded] if is_new else []
        return InvoiceSettlement("CREDITED" if new else "ALREADY_CREDITED", new)


def _payment(
    known: KnownInvoice,
    invoice: Invoice,
    event_id: UUID,
    amount: Decimal,
    intent_id: str | None,
    *,
    cause: str,
    now: datetime,
) -> Payment:
    paid_at = now if invoice.paid_at is None else min(invoice.paid_at, now)
    paid = invoice.amount_paid + invoice.credit_used
    return Payment(
        event_id=event_id,
        reason="invoice",
        mandate_id=known.mandate_id,
        user_id=None,
        created_by_user_id=None,
        amount=amount,
        currency=invoice.currency,
        requested_amount=known.total,
        requested_currency=known.currency,
        mismatch=(paid, invoice.currency) != (known.total, known.currency),
        checkout_id=None,
        stripe_session_id=None,
        stripe_payment_intent_id=intent_id,
        cause=cause,
        paid_at=paid_at,
        recorded_at=now,
        reference=str(known.invoice_id),
        description=known.number,
    )
