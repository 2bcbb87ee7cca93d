"""Reads of what payments has recorded, for comparing it with Stripe and the ledger."""

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.statements import one_of
from services.payments.checkouts.domain import Payment
from services.payments.checkouts.tables import payments
from services.payments.invoices.tables import invoices
from services.payments.reconciliation.domain import Window
from services.payments.refunds.domain import refund_id_of
from services.payments.refunds.tables import refunds
from services.payments.subscriptions.tables import stripe_subscriptions

__all__ = [
    "RecordedRefund",
    "RecordedSubscription",
    "known_references",
    "payments_in",
    "payments_of_intents",
    "payments_of_references",
    "refunds_in",
    "subscriptions_at_stripe",
    "unpaid_invoices",
]


class RecordedRefund(NamedTuple):
    """A refund or dispute that was taken from a credit."""

    refund_id: str
    amount: object
    currency: str
    intent_id: str | None
    mandate_id: str
    taken_count: int


class RecordedSubscription(NamedTuple):
    """A subscription of ours and the status in which it was last told of."""

    subscription_id: UUID
    mandate_id: str
    stripe_subscription_id: str
    status: str | None


async def payments_of_intents(connection: AsyncConnection, intent_ids: Collection[str]) -> dict[str, Payment]:
    """The payments of these intents, by intent."""
    query = sa.select(payments).where(one_of(payments.c.stripe_payment_intent_id, intent_ids))
    rows = (await connection.execute(query)).mappings()
    return {row["stripe_payment_intent_id"]: Payment(**row) for row in rows}


async def payments_of_references(connection: AsyncConnection, references: Collection[str]) -> list[Payment]:
    """The payments of these references."""
    query = sa.select(payments).where(one_of(payments.c.reference, references))
    return [Payment(**row) for row in (await connection.execute(query)).mappings()]


async def payments_in(connection: AsyncConnection, window: Window) -> list[Payment]:
    """The payments that were recorded in a time."""
    inside = (payments.c.recorded_at >= window.start, payments.c.recorded_at < window.end)
    query = sa.select(payments).where(*inside).order_by(payments.c.recorded_at)
    return [Payment(**row) for row in (await connection.execute(query)).mappings()]


async def known_references(connection: AsyncConnection, references: Collection[str]) -> set[str]:
    """Which of these references have a payment here, or a refund that was given back."""
    of_payments = sa.select(payments.c.reference).where(one_of(payments.c.reference, references))
    of_refunds = sa.select(refunds.c.refund_id).where(one_of(refunds.c.refund_id, [*map(refund_id_of, references)]))
    given_back = set(await connection.scalars(of_refunds))
    return {*await connection.scalars(of_payments), *(each for each in references if refund_id_of(each) in given_back)}


async def refunds_in(connection: AsyncConnection, window: Window) -> list[RecordedRefund]:
    """What was taken from credits in a time; what went back of a subscription takes of a budget, which is another
    amount."""
    inside = (
        refunds.c.recorded_at >= window.start,
        refunds.c.recorded_at < window.end,
        refunds.c.state == "TAKEN",
        payments.c.reason != "subscription",
    )
    query = (
        sa.select(
            refunds.c.refund_id,
            refunds.c.amount,
            refunds.c.currency,
            payments.c.stripe_payment_intent_id,
            payments.c.mandate_id,
            refunds.c.taken_count,
        )
        .select_from(refunds.join(payments, payments.c.event_id == refunds.c.payment_event_id))
        .where(*inside, refunds.c.amount > 0)
        .order_by(refunds.c.refund_id)
    )
    return [RecordedRefund(*row) for row in await connection.execute(query)]


async def subscriptions_at_stripe(connection: AsyncConnection) -> dict[str, RecordedSubscription]:
    """Every subscription that Stripe has by our records, by its id there."""
    table = stripe_subscriptions.c
    columns = (table.subscription_id, table.mandate_id, table.stripe_subscription_id, table.status)
    query = sa.select(*columns).where(table.stripe_subscription_id.is_not(None))
    return {row.stripe_subscription_id: RecordedSubscription(*row) for row in await connection.execute(query)}


async def unpaid_invoices(connection: AsyncConnection) -> list[tuple[str, str]]:
    """The monthly invoices at Stripe without a payment here, each with its mandate."""
    paid = sa.exists().where(payments.c.reference == sa.cast(invoices.c.invoice_id, sa.Text))
    query = (
        sa.select(invoices.c.stripe_invoice_id, invoices.c.mandate_id)
        .where(invoices.c.stripe_invoice_id.is_not(None), ~paid)
        .order_by(invoices.c.created_at)
    )
    return [(row.stripe_invoice_id, row.mandate_id) for row in await connection.execute(query)]
