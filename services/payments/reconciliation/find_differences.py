"""Compares Stripe's payments, refunds and subscriptions of a time with our records, and those with the ledger and the
subscriptions service where they were asked. Changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from services.chassis.database import Database
from services.payments.checkouts.domain import Payment, received_of_intent
from services.payments.reconciliation.domain import Difference, Kind, Others, Window
from services.payments.reconciliation.queries import (
    RecordedSubscription,
    known_references,
    payments_in,
    payments_of_intents,
    refunds_in,
    subscriptions_at_stripe,
    unpaid_invoices,
)
from services.payments.refunds.domain import Movement, movements, told_id
from services.payments.refunds.observe_subscription_payment import ObservedSubscriptionPayment
from services.payments.refunds.repository import read_refunds
from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.invoices import read_invoice
from services.payments.stripe.objects import PaymentIntent, Subscription
from services.payments.stripe.payment_intents import list_intents, read_intent
from services.payments.stripe.refunds import list_refunds, money_back
from services.payments.stripe.subscriptions import list_subscriptions
from services.payments.subscriptions.domain import subscription_id_in

__all__ = ["find_differences"]

CHF = "CHF"
# What was published just now is still on its way to the ledger.
CONSUMING = timedelta(seconds=30)
# What our payments carry at Stripe.
_OURS = ("checkoutId", "rechargeId")


async def find_differences(
    database: Database, stripe: StripeGateway, window: Window, others: Others, *, now: datetime
) -> list[Difference]:
    """Every difference, payments first."""
    return [
        *await _payments(database, stripe, window),
        *await _invoices(database, stripe),
        *await _refunds(database, stripe, window),
        *await _subscriptions(database, stripe, others),
        *await _ledger(database, replace(window, end=min(window.end, now - CONSUMING)), others),
    ]


async def _payments(database: Database, stripe: StripeGateway, window: Window) -> list[Difference]:
    intents = {each.id: each for each in await list_intents(stripe, created=window.created)}
    received = {id_: each for id_, each in intents.items() if each.status == "succeeded" and each.amount_received > 0}
    async with database.reading() as connection:
        recorded = await payments_of_intents(connection, received)
        ours = [each for each in await payments_in(connection, window) if each.stripe_payment_intent_id is not None]
    found = [
        difference
        for intent in received.values()
        if (difference := _of_intent(intent, recorded.get(intent.id))) is not None
    ]
    for payment in ours:
        intent_id = payment.stripe_payment_intent_id or ""
        if intent_id not in received and not await _was_received(stripe, intent_id):
            found.append(_difference(Kind.PAYMENT_NOT_AT_STRIPE, intent_id, payment, "recorded as paid"))
    return found


def _of_intent(intent: PaymentIntent, payment: Payment | None) -> Difference | None:
    paid = f"{intent.amount_received} {intent.currency}"
    if payment is None:
        mandate_id = intent.metadata.get("mandateId")
        is_ours = any(name in intent.metadata for name in _OURS)
        return Difference(Kind.PAYMENT_MISSING, intent.id, mandate_id, f"{paid} paid") if is_ours else None
    if (payment.amount, payment.currency) == (intent.amount_received, intent.currency):
        return None
    detail = f"{paid} paid, {payment.amount} {payment.currency} recorded"
    return _difference(Kind.PAYMENT_AMOUNT_DIFFERS, intent.id, payment, detail)


def _difference(kind: Kind, stripe_id: str, payment: Payment, detail: str) -> Difference:
    return Difference(kind, stripe_id, payment.mandate_id, detail)


async def _was_received(stripe: StripeGateway, intent_id: str) -> bool:
    """Looked at by itself: it may have been begun before the time that is compared."""
    try:
        intent = await read_intent(stripe, intent_id)
    except StripeObjectUnknown:
        return False
    return intent.status == "succeeded"


async def _invoices(database: Database, stripe: StripeGateway) -> list[Difference]:
    async with database.reading() as connection:
        open_ = await unpaid_invoices(connection)
    found: list[Difference] = []
    for stripe_invoice_id, mandate_id in open_:
        try:
            invoice = await read_invoice(stripe, stripe_invoice_id)
        except StripeObjectUnknown:
            continue
        paid = invoice.amount_paid + invoice.credit_used
        if invoice.status == "paid" and paid > 0:
            detail = f"{paid} {invoice.currency} paid"
            found.append(Difference(Kind.INVOICE_PAYMENT_MISSING, stripe_invoice_id, mandate_id, detail))
    return found


async def _refunds(database: Database, stripe: StripeGateway, window: Window) -> list[Difference]:
    backs = await list_refunds(stripe, created=window.created)
    touched = {each.intent_id for each in backs if each.intent_id is not None}
    async with database.reading() as connection:
        recorded = await payments_of_intents(connection, touched)
        subscriptions = await subscriptions_at_stripe(connection)
    found = await _refunds_of_subscriptions(stripe, sorted(touched - recorded.keys()), subscriptions)
    for intent_id, payment in recorded.items():
        async with database.reading() as connection:
            known = await read_refunds(connection, payment.event_id)
        # All of the payment's, because together they never take more than was paid.
        moved = movements(payment.amount, known, await money_back(stripe, intent_id))
        found += _refunds_missing(payment.mandate_id, moved)
    return found


async def _refunds_of_subscriptions(
    stripe: StripeGateway, intent_ids: Iterable[str], recorded: Mapping[str, RecordedSubscription]
) -> list[Difference]:
    """Of payments that are not recorded, as those of subscriptions are not until something of them goes back."""
    found: list[Difference] = []
    for intent_id in intent_ids:
        try:
            paid = await ObservedSubscriptionPayment.of(stripe, await read_intent(stripe, intent_id))
        except StripeObjectUnknown:
            continue
        record = None if paid is None else recorded.get(paid.subscription.id)
        received = None if paid is None else received_of_intent(paid.intent)
        if record is not None and received is not None:
            found += _refunds_missing(
                record.mandate_id, movements(received.amount, {}, await money_back(stripe, intent_id))
            )
    return found


def _refunds_missing(mandate_id: str, moved: Iterable[Movement]) -> list[Difference]:
    return [
        Difference(
            Kind.REFUND_MISSING,
            each.back.id,
            mandate_id,
            f"{each.amount} {each.back.currency} {each.state.value.lower()} by {each.back.kind}",
        )
        for each in moved
        if each.amount
    ]


async def _subscriptions(database: Database, stripe: StripeGateway, others: Others) -> list[Difference]:
    there = {each.id: each for each in await list_subscriptions(stripe)}
    async with database.reading() as connection:
        recorded = await subscriptions_at_stripe(connection)
    return [*_missing(there, recorded), *_differing(there, recorded, others)]


def _missing(there: Mapping[str, Subscription], recorded: Mapping[str, RecordedSubscription]) -> Iterable[Difference]:
    ids = {each.subscription_id for each in recorded.values()}
    for subscription in there.values():
        subscription_id = subscription_id_in(subscription.metadata)
        if subscription.id in recorded or subscription_id is None or subscription_id in ids:
            continue
        mandate_id = subscription.metadata.get("mandateId")
        yield Difference(Kind.SUBSCRIPTION_MISSING, subscription.id, mandate_id, f"{subscription.status} at Stripe")


def _differing(
    there: Mapping[str, Subscription], recorded: Mapping[str, RecordedSubscription], others: Others
) -> Iterable[Difference]:
    for stripe_id, record in recorded.items():
        subscription = there.get(stripe_id)
        if subscription is None:
            detail = f"last told of as {record.status}"
            yield Difference(Kind.SUBSCRIPTION_NOT_AT_STRIPE, stripe_id, record.mandate_id, detail)
        elif subscription.status != record.status:
            detail = f"{subscription.status} at Stripe, last told of as {record.status}"
            yield Difference(Kind.SUBSCRIPTION_STALE, stripe_id, record.mandate_id, detail)
        elif others.statuses is not None and others.statuses.get(str(record.subscription_id)) != subscription.status:
            seen = others.statuses.get(str(record.subscription_id)) or "nothing"
            detail = f"{subscription.status} at Stripe, {seen} in subscriptions"
            yield Difference(Kind.SUBSCRIPTION_NOT_FOLLOWED, stripe_id, record.mandate_id, detail)


async def _ledger(database: Database, window: Window, others: Others) -> Sequence[Difference]:
    credited, taken = others.credits, others.refunds
    if credited is None or taken is None:
        return []
    async with database.reading() as connection:
        # What was paid in another currency may wait for a rate.
        payments = [each for each in await payments_in(connection, window) if each.currency == CHF and each.published]
        refunds = [each for each in await refunds_in(connection, window) if each.currency == CHF]
        known = await known_references(connection, credited)
    found: list[Difference] = []
    # Parts of one invoice are told apart by their amount alone, so each credit is one of them once.
    left = {reference: list(amounts) for reference, amounts in credited.items()}
    for payment in payments:
        stripe_id, amounts = payment.stripe_payment_intent_id or payment.reference, left.get(payment.reference)
        if not amounts:
            found.append(_difference(Kind.LEDGER_CREDIT_MISSING, stripe_id, payment, f"{payment.amount} CHF paid"))
        elif payment.amount in amounts:
            amounts.remove(payment.amount)
        else:
            detail = f"{payment.amount} CHF paid, {_listed(amounts)} CHF credited"
            found.append(_difference(Kind.LEDGER_AMOUNT_DIFFERS, stripe_id, payment, detail))
    for refund in refunds:
        booked = taken.get(told_id(refund.refund_id, refund.taken_count))
        if booked is None:
            detail = f"{refund.amount} CHF went back"
            found.append(Difference(Kind.LEDGER_REFUND_MISSING, refund.refund_id, refund.mandate_id, detail))
        elif booked != refund.amount and refund.taken_count <= 1:
            detail = f"{refund.amount} CHF went back, {booked} CHF taken back"
            found.append(Difference(Kind.LEDGER_AMOUNT_DIFFERS, refund.refund_id, refund.mandate_id, detail))
    unknown = sorted(set(credited) - known)
    found += [
        Difference(Kind.LEDGER_CREDIT_UNKNOWN, each, None, f"{_listed(credited[each])} CHF credited")
        for each in unknown
    ]
    return found


def _listed(amounts: Sequence[Decimal]) -> str:
    return ", ".join(map(str, amounts))
