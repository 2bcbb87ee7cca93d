"""Charges the stored method of a mandate for a recharge that billing asks for: once, whatever crashes in between."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.billing.v1 import RechargeRequested
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.return_url import ReturnUrls
from services.chassis.validation import say
from services.payments.checkouts.domain import RECHARGE, Checkout, CheckoutState
from services.payments.checkouts.open_session import open_session
from services.payments.checkouts.repository import add_checkout, renew_stripe_attempt, save_session
from services.payments.customers.domain import Customer
from services.payments.customers.repository import find_customer, want_method
from services.payments.recharges.domain import RECHARGE_TEXT, Recharge, RechargeState
from services.payments.recharges.repository import add_recharge, lock_recharge
from services.payments.recharges.settle_recharge import LANGUAGE, fail_recharge, settle_recharge
from services.payments.requests.domain import StoredRequest
from services.payments.requests.process_requests import Done
from services.payments.stripe.customers import chargeable_method
from services.payments.stripe.errors import StripeDeclined, StripeFailed, StripeRefused
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.objects import PaymentIntent
from services.payments.stripe.payment_intents import Charge, charge_method, find_charge

__all__ = ["ChargeAccount"]

_NAMESPACE = UUID("77c4a0f2-96d1-5f3e-b8a4-2c51d0e7f913")
# Who starts a checkout where the platform does.
PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why nothing was paid, and where somebody can confirm it."""

    state: RechargeState
    decline_code: str | None
    intent_id: str | None = None
    action_url: str | None = None


class ChargeAccount:
    """The work of recharge.requested."""

    def __init__(self, database: Database, stripe: StripeGateway, *, pages: ReturnUrls | None, clock: Clock) -> None:
        """`pages` are where somebody who confirms a payment in person comes back to; without, there is no link."""
        self._database = database
        self._stripe = stripe
        self._pages = pages
        self._clock = clock

    async def perform(self, request: StoredRequest) -> Done:
        """Charges, unless that was done before; a decline is an answer, and what cannot be done now is tried again."""
        asked = RechargeRequested.model_validate_json(request.data)
        async with self._database.transaction() as connection:
            await add_recharge(connection, _recharge(asked), self._clock())
            customer = await find_customer(connection, asked.mandate_id)
        if customer is None or customer.stripe_customer_id is None:
            return self._without_method(asked)
        if request.begun_at is not None:
            found = await find_charge(
                self._stripe, customer.stripe_customer_id, asked.recharge_id, since=request.received_at
            )
            if found is not None:
                return await self._by_intent(asked, customer.stripe_customer_id, found)
            if request.is_over(self._clock()):
                return self.expired(request)
        return await self._charge(request, asked, customer, customer.stripe_customer_id)

    def expired(self, request: StoredRequest) -> Done:
        """Billing counts it as given up by itself, and may have asked for another one."""
        return Done("EXPIRED")

    async def _charge(
        self, request: StoredRequest, asked: RechargeRequested, customer: Customer, customer_id: str
    ) -> Done:
        method_id = await chargeable_method(self._stripe, customer_id, customer.payment_method_id)
        if method_id is None:
            return self._without_method(asked)
        charge = Charge(
            recharge_id=asked.recharge_id,
            mandate_id=asked.mandate_id,
            user_id=asked.user_id,
            amount=asked.amount.amount,
            currency=asked.amount.currency,
            customer_id=customer_id,
            method_id=method_id,
            description=say(RECHARGE_TEXT, LANGUAGE),
        )
        # Another method is another charge to Stripe, which refuses it under a key that it has seen.
        key = f"{request.key('recharge')}:{sha256(method_id.encode()).hexdigest()[:16]}"
        try:
            intent = await charge_method(self._stripe, charge, idempotency_key=key)
        except StripeDeclined as error:
            return await self._declined(
                asked, customer_id, error.decline_code, error.intent_id, error.needs_authentication
            )
        except (StripeRefused, ValueError):
            # An amount that Stripe does not charge, or a configuration that does not allow it.
            return self._failed(asked, _Failure(RechargeState.DECLINED, "refused_by_provider"))
        return await self._by_intent(asked, customer_id, intent)

    async def _by_intent(self, asked: RechargeRequested, customer_id: str, intent: PaymentIntent) -> Done:
        if intent.status in ("requires_payment_method", "requires_action", "canceled"):
            needs_authentication = (
                intent.status == "requires_action" or intent.decline_code == "authentication_required"
            )
            return await self._declined(asked, customer_id, intent.decline_code, intent.id, needs_authentication)

        async def write(connection: AsyncConnection) -> None:
            recharge = await lock_recharge(connection, asked.recharge_id)
            if recharge is not None:
                now = self._clock()
                await settle_recharge(connection, recharge, intent, cause=asked.cause, now=now)

        return Done(intent.status.upper(), write)

    async def _declined(
        self,
        asked: RechargeRequested,
        customer_id: str,
        decline_code: str | None,
        intent_id: str | None,
        needs_authentication: bool,
    ) -> Done:
        if not needs_authentication:
            return self._failed(asked, _Failure(RechargeState.DECLINED, decline_code, intent_id))
        link = await self._link(asked, customer_id)
        return self._failed(asked, _Failure(RechargeState.ACTION_REQUIRED, decline_code, intent_id, link))

    async def _link(self, asked: RechargeRequested, customer_id: str) -> str | None:
        """The address of a checkout of the same amount, in which an administrator pays and confirms in person."""
        if self._pages is None:
            return None
        async with self._database.transaction() as connection:
            checkout = await add_checkout(connection, _checkout(asked, self._pages, customer_id, self._clock()))
        if checkout.redirect_url is not None:
            return checkout.redirect_url
        try:
            session = await open_session(self._stripe, checkout)
        except StripeFailed:
            # By the same key Stripe would answer the same for a day.
            async with self._database.transaction() as connection:
                await renew_stripe_attempt(connection, checkout)
            raise
        except StripeRefused:
            # That it was not paid is told all the same, and those after it are charged.
            return None
        async with self._database.transaction() as connection:
            await save_session(connection, checkout.id, session_id=session.id, url=session.url, now=self._clock())
        return session.url

    def _without_method(self, asked: RechargeRequested) -> Done:
        failure = _Failure(RechargeState.DECLINED, "no_payment_method")
        return self._failed(asked, failure, wants_method=True)

    def _failed(self, asked: RechargeRequested, failure: _Failure, *, wants_method: bool = False) -> Done:
        async def write(connection: AsyncConnection) -> None:
            now = self._clock()
            if wants_method:
                await want_method(connection, asked.mandate_id, now)
            recharge = await lock_recharge(connection, asked.recharge_id)
            if recharge is not None:
                await fail_recharge(
                    connection,
                    recharge,
                    failure.state,
                    decline_code=failure.decline_code,
                    intent_id=failure.intent_id,
                    action_url=failure.action_url,
                    cause=asked.cause,
                    now=now,
                )

        return Done(failure.state.value, write)


def _recharge(asked: RechargeRequested) -> Recharge:
    return Recharge(
        recharge_id=asked.recharge_id,
        mandate_id=asked.mandate_id,
        user_id=asked.user_id,
        amount=asked.amount.amount,
        currency=asked.amount.currency,
        state=RechargeState.CHARGING.value,
        stripe_payment_intent_id=None,
        decline_code=None,
        requested_at=asked.requested_at,
    )


def _checkout(asked: RechargeRequested, pages: ReturnUrls, customer_id: str, now: datetime) -> Checkout:
    """One for each recharge: its id and its key come from the recharge's."""
    return Checkout(
        id=uuid5(_NAMESPACE, str(asked.recharge_id)),
        purpose=RECHARGE,
        mandate_id=asked.mandate_id,
        user_id=asked.user_id,
        created_by_user_id=PLATFORM,
        language=LANGUAGE,
        amount=asked.amount.amount,
        currency=asked.amount.currency,
        success_url=pages.success,
        cancel_url=pages.cancel,
        idempotency_key=str(asked.recharge_id),
        request_digest=b"",
        stripe_attempt=1,
        stripe_session_id=None,
        redirect_url=None,
        state=CheckoutState.OPEN,
        created_at=now,
        updated_at=now,
        recharge_id=asked.recharge_id,
        save_method=True,
        stripe_customer_id=customer_id,
    )
