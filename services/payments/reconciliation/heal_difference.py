"""Heals a difference that is safe: by what an event of Stripe's would have done, or by telling again what was told."""

from functools import partial
from typing import Final

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.logging import get_logger
from services.chassis.outbox import append_outbox
from services.payments.checkouts.errors import PaymentNotPlaceable
from services.payments.checkouts.record_payment import payment_succeeded
from services.payments.invoices.settle_invoice import ObservedMonthlyInvoice
from services.payments.observations import numbers_of, until_newest
from services.payments.reconciliation.domain import Difference, Kind
from services.payments.reconciliation.queries import payments_of_intents, payments_of_references
from services.payments.refunds.domain import Movement
from services.payments.refunds.observe_payment import ObservedPayment, ObservedRefunds
from services.payments.refunds.repository import read_refunds
from services.payments.refunds.settle_refunds import refund_event
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.invoices import read_invoice
from services.payments.stripe.payment_intents import read_intent
from services.payments.stripe.refunds import find_money_back
from services.payments.subscriptions.observe_objects import ObservedSubscription

__all__ = ["HealDifference"]

ObservedObject = ObservedPayment | ObservedMonthlyInvoice | ObservedRefunds | ObservedSubscription

CAUSE: Final = "reconciliation"

_log = get_logger(__name__)


class HealDifference:
    """Heals one difference; repeats change nothing."""

    def __init__(self, database: Database, stripe: StripeGateway, *, clock: Clock) -> None:
        self._database = database
        self._stripe = stripe
        self._clock = clock
        self._numbers = numbers_of(database)

    async def __call__(self, difference: Difference) -> bool:
        """Whether it was healed."""
        match difference.kind:
            case Kind.LEDGER_CREDIT_MISSING:
                return await self._tell_payment(difference.stripe_id)
            case Kind.LEDGER_REFUND_MISSING:
                return await self._tell_refund(difference.stripe_id)
            case _:
                try:
                    return await until_newest(partial(self._follow, difference))
                except PaymentNotPlaceable:
                    # Its event is set aside for an operator too, and the differences after it are healed.
                    _log.warning("difference cannot be healed", kind=difference.kind, object_id=difference.stripe_id)
                    return False

    async def _follow(self, difference: Difference) -> bool:
        observed = await self._observed(difference)
        return observed is not None and await self._apply(observed)

    async def _observed(self, difference: Difference) -> ObservedObject | None:
        """What an event of Stripe's about it would have been about."""
        stripe, stripe_id = self._stripe, difference.stripe_id
        match difference.kind:
            case Kind.PAYMENT_MISSING:
                return await ObservedPayment.of(stripe, await read_intent(stripe, stripe_id), self._numbers)
            case Kind.INVOICE_PAYMENT_MISSING:
                return await ObservedMonthlyInvoice.of(stripe, await read_invoice(stripe, stripe_id))
            case Kind.REFUND_MISSING:
                back = await find_money_back(stripe, stripe_id)
                return await ObservedRefunds.fetch(stripe, back.intent_id, number=await self._numbers())
            case Kind.SUBSCRIPTION_MISSING | Kind.SUBSCRIPTION_STALE | Kind.SUBSCRIPTION_NOT_FOLLOWED:
                return await ObservedSubscription.fetch(stripe, stripe_id, number=await self._numbers())
            case _:
                return None

    async def _apply(self, observed: ObservedObject) -> bool:
        async with self._database.transaction() as connection:
            effect = await observed.apply(connection, cause=CAUSE, now=self._clock())
        if effect is None:
            return False
        effect.report()
        return True

    async def _tell_payment(self, stripe_id: str) -> bool:
        async with self._database.transaction() as connection:
            found = (await payments_of_intents(connection, [stripe_id])).get(stripe_id)
            payments = [found] if found is not None else await payments_of_references(connection, [stripe_id])
            await append_outbox(connection, [payment_succeeded(each) for each in payments])
        return bool(payments)

    async def _tell_refund(self, refund_id: str) -> bool:
        back = await find_money_back(self._stripe, refund_id)
        if back.intent_id is None:
            return False
        async with self._database.transaction() as connection:
            payment = (await payments_of_intents(connection, [back.intent_id])).get(back.intent_id)
            if payment is None:
                return False
            refund = (await read_refunds(connection, payment.event_id)).get(refund_id)
            if refund is None or refund.taken_count > 1:
                # Of several takings it is not known any more how much each one took.
                return False
            movement = Movement(back, refund.state, refund.amount, refund.amount, refund.taken_count)
            await append_outbox(connection, [refund_event(payment, movement, cause=CAUSE, now=self._clock())])
        return True
