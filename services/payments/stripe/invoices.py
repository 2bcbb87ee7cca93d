"""Invoices at Stripe."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.payments.stripe.gateway import StripeGateway, from_minor
from services.payments.stripe.json_values import id_of, list_of, metadata_of, time_of
from services.payments.stripe.objects import Invoice

__all__ = ["invoice_of", "read_invoice"]


async def read_invoice(stripe: StripeGateway, invoice_id: str) -> Invoice:
    """The invoice as Stripe has it now; raises StripeObjectUnknown."""
    return invoice_of(await stripe.ask(lambda v1: v1.invoices.retrieve_async(invoice_id)))


def invoice_of(found: Mapping[str, Any]) -> Invoice:
    """An invoice from its JSON, of this or an older version of Stripe's API."""
    currency = str(found.get("currency") or "").upper()
    start, end = _charged_period(found)
    transitions = found.get("status_transitions")
    return Invoice(
        id=found["id"],
        customer_id=id_of(found.get("customer")),
        status=found.get("status"),
        billing_reason=found.get("billing_reason"),
        subscription_id=_subscription_id(found),
        metadata=metadata_of(found),
        total=from_minor(found.get("total") or 0, currency),
        amount_paid=from_minor(found.get("amount_paid") or 0, currency),
        currency=currency,
        period_start=start,
        period_end=end,
        paid_at=time_of(transitions.get("paid_at")) if isinstance(transitions, Mapping) else None,
        attempts=found.get("attempt_count") or 0,
        hosted_url=found.get("hosted_invoice_url"),
    )


def _charged_period(invoice: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    """The period that the invoice charges for: that of its lines, less those that settle a change within a period.

    The invoice's own period is the one before, because it is that of usage. Where lines have different periods, or
    there are none, nothing is guessed.
    """
    periods = {
        (time_of(period.get("start")), time_of(period.get("end")))
        for line in list_of(invoice.get("lines"))
        if _charges_period(line) and isinstance(period := line.get("period"), Mapping)
    }
    return periods.pop() if len(periods) == 1 else (None, None)


def _charges_period(line: Mapping[str, Any]) -> bool:
    parent = line.get("parent")
    if not isinstance(parent, Mapping):
        # As older versions had it.
        return line.get("type") == "subscription" and not line.get("proration")
    details = parent.get("subscription_item_details")
    return isinstance(details, Mapping) and not details.get("proration")


def _subscription_id(invoice: Mapping[str, Any]) -> str | None:
    """The subscription that an invoice is of: in its parent, where older versions had it, or in its lines where they
    all name the same."""
    parent = invoice.get("parent")
    details = parent.get("subscription_details") if isinstance(parent, Mapping) else None
    found = id_of(details.get("subscription")) if isinstance(details, Mapping) else None
    if found is None:
        found = id_of(invoice.get("subscription"))
    if found is not None:
        return found
    named = {_subscription_of_line(line) for line in list_of(invoice.get("lines"))} - {None}
    return named.pop() if len(named) == 1 else None


def _subscription_of_line(line: Mapping[str, Any]) -> str | None:
    parent = line.get("parent")
    details = parent.get("subscription_item_details") if isinstance(parent, Mapping) else None
    found = id_of(details.get("subscription")) if isinstance(details, Mapping) else None
    return found if found is not None else id_of(line.get("subscription"))
