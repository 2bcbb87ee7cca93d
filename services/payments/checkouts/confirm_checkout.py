"""Confirming a top-up after the redirect: the session is fetched from Stripe and settled as the webhook settles it."""

from functools import partial

from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.consumer_progress import ConsumerProgress
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.payments.checkouts.domain import received_payment
from services.payments.checkouts.errors import NotPaid, UnknownSession
from services.payments.checkouts.settle_checkout import ObservedSession, Settlement
from services.payments.checkouts.take_over_session import find_own_checkout
from services.payments.observations import numbers_of, until_newest
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.objects import CheckoutSession

__all__ = ["ConfirmCheckout"]


class ConfirmCheckout:
    """Credits a paid session once, whether the webhook was here before or not."""

    def __init__(
        self,
        database: Database,
        stripe: StripeGateway,
        consumer_progress: ConsumerProgress,
        *,
        clock: Clock,
        faults: FaultPoints,
    ) -> None:
        self._database = database
        self._stripe = stripe
        self._consumer_progress = consumer_progress
        self._clock = clock
        self._faults = faults
        self._numbers = numbers_of(database)

    async def __call__(self, session_id: str, *, caller: Caller, cause: str) -> Settlement:
        """Settles the session and gives the credit. What is unknown is answered before the role is looked at, and the
        role before the payment status, so that no answer says more than the caller may know."""
        caller.require_person()
        settlement = await until_newest(partial(self._settle, session_id, caller, cause))
        # The caller asks billing for the balance next.
        await self._consumer_progress.caught_up("payment.succeeded")
        return settlement

    async def _settle(self, session_id: str, caller: Caller, cause: str) -> Settlement:
        observed = await ObservedSession.fetch(self._stripe, session_id, self._numbers)
        if observed is None:
            raise UnknownSession
        session = observed.session
        async with self._database.reading() as connection:
            checkout = await find_own_checkout(connection, session, self._clock())
        if checkout is None:
            raise UnknownSession
        caller.require_admin(checkout.mandate_id)
        async with self._database.transaction() as connection:
            settlement = await observed.apply(connection, cause=cause, now=self._clock())
            self._faults.reach("payments_before_commit")
        if settlement is None:
            raise UnknownSession
        settlement.report()
        if received_payment(session) is None:
            raise NotPaid(payment_status=_status(session))
        return settlement


def _status(session: CheckoutSession) -> str:
    """The session's payment status, or the intent's where a session says paid and its money is not there."""
    intent = session.payment_intent
    return intent.status if session.payment_status == "paid" and intent is not None else session.payment_status
