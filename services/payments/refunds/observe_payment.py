"""A payment as Stripe has it now, of whichever kind it is, with what of it went back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.checkouts.settle_checkout import ObservedSession, Settlement
from services.payments.observations import NextNumber
from services.payments.recharges.domain import recharge_id_in
from services.payments.recharges.settle_recharge import ObservedRecharge, RechargeSettlement
from services.payments.refunds.observe_subscription_payment import ObservedSubscriptionPayment, SubscriptionPaid
from services.payments.refunds.settle_refunds import RefundSettlement, settle_refunds
from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.objects import MoneyBack, PaymentIntent
from services.payments.stripe.payment_intents import read_intent, session_of_intent
from services.payments.stripe.refunds import money_back

__all__ = ["ObservedPayment", "ObservedRefunds"]


@dataclass(frozen=True, slots=True)
class ObservedPayment:
    """A payment: of a recharge, or of a checkout."""

    settled_by: "ObservedRecharge | ObservedSession | _LeftToSession"

    @classmethod
    async def fetch(cls, stripe: StripeGateway, intent_id: str, numbers: NextNumber) -> Self | None:
        """Gets it from Stripe; None when there is none of that id, or it is neither."""
        try:
            intent = await read_intent(stripe, intent_id)
        except StripeObjectUnknown:
            return None
        if "checkoutId" in intent.metadata and intent.status != "canceled":
            return cls(_LeftToSession())
        return await cls.of(stripe, intent, numbers)

    @classmethod
    async def of(cls, stripe: StripeGateway, intent: PaymentIntent, numbers: NextNumber) -> Self | None:
        """The same of a payment that was read. What it is of, its metadata says; whether that is so, the record."""
        if recharge_id_in(intent.metadata) is not None:
            return cls(ObservedRecharge(intent))
        return await cls._of_checkout(stripe, intent, numbers)

    @classmethod
    async def _of_checkout(cls, stripe: StripeGateway, intent: PaymentIntent, numbers: NextNumber) -> Self | None:
        session_id = await session_of_intent(stripe, intent.id)
        session = None if session_id is None else await ObservedSession.fetch(stripe, session_id, numbers)
        return None if session is None or session.session.mode != "payment" else cls(session)

    async def apply(
        self, connection: AsyncConnection, *, cause: str, now: datetime
    ) -> "Settlement | RechargeSettlement | _LeftToSession | None":
        """Settles it in the caller's transaction; None when it is not ours."""
        return await self.settled_by.apply(connection, cause=cause, now=now)


@dataclass(frozen=True, slots=True)
class _LeftToSession:
    """A payment of a checkout, of whose session Stripe tells by an event of its own."""

    outcome: str = "LEFT_TO_SESSION"

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> Self:
        """Changes nothing."""
        return self

    def report(self) -> None:
        """There is nothing to tell."""


@dataclass(frozen=True, slots=True)
class _Both:
    """A payment that is credited only now, because its refund was told of first."""

    payment: Settlement | RechargeSettlement | SubscriptionPaid | _LeftToSession
    refunds: RefundSettlement

    @property
    def outcome(self) -> str:
        """What became of the refund."""
        return self.refunds.outcome

    def report(self) -> None:
        """Counts and logs both."""
        self.payment.report()
        self.refunds.report()


@dataclass(frozen=True, slots=True)
class ObservedRefunds:
    """All refunds and disputes of a payment, with the payment: what goes back was paid before, whichever of the two is
    told first."""

    intent_id: str
    payment: ObservedPayment | ObservedSubscriptionPayment | None
    backs: Sequence[MoneyBack]
    number: int

    @classmethod
    async def fetch(cls, stripe: StripeGateway, intent_id: str | None, *, number: int) -> Self | None:
        """Gets them from Stripe, after that number was taken; None where there is no such payment."""
        if intent_id is None:
            return None

        async def numbers() -> int:
            return number

        try:
            backs = await money_back(stripe, intent_id)
            intent = await read_intent(stripe, intent_id)
            payment = await ObservedPayment.of(stripe, intent, numbers)
            if payment is None and backs:
                return cls(intent_id, await ObservedSubscriptionPayment.of(stripe, intent), backs, number)
        except StripeObjectUnknown:
            return None
        return cls(intent_id, payment, backs, number)

    async def apply(
        self, connection: AsyncConnection, *, cause: str, now: datetime
    ) -> Settlement | RechargeSettlement | SubscriptionPaid | RefundSettlement | _LeftToSession | _Both | None:
        """Settles payment and refunds in the caller's transaction; None when it is not ours."""
        paid = None if self.payment is None else await self.payment.apply(connection, cause=cause, now=now)
        refunds = await settle_refunds(connection, self.intent_id, self.backs, number=self.number, cause=cause, now=now)
        if paid is not None and refunds is not None:
            return _Both(paid, refunds)
        return refunds if refunds is not None else paid
