"""Starting a top-up: the order is committed before Stripe is called, so no crash can lose or double it."""

from collections.abc import Collection, Container
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from uuid import UUID, uuid4

import orjson

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.problems import IdempotencyMismatch
from services.chassis.return_url import Marks, return_urls
from services.payments.checkouts.domain import SETUP, TOP_UP, Checkout, CheckoutState
from services.payments.checkouts.errors import (
    AmountNotOffered,
    IdempotencyInProgress,
    ReturnUrlNotAllowed,
)
from services.payments.checkouts.open_session import open_session
from services.payments.checkouts.repository import (
    add_checkout,
    renew_stripe_attempt,
    save_checkout_customer,
    save_session,
)
from services.payments.customers.ensure_customer import EnsureCustomer
from services.payments.customers.repository import find_customer
from services.payments.stripe.errors import StripeBusy, StripeFailed
from services.payments.stripe.gateway import StripeGateway

__all__ = ["CURRENCY", "CheckoutOrder", "CreateCheckout"]

CURRENCY = "CHF"


@dataclass(frozen=True, slots=True)
class CheckoutOrder:
    """What an administrator of the mandate asks for: a top-up, or to save a method (`SETUP`, of no amount)."""

    mandate_id: str
    user_id: str | None
    amount: Decimal
    return_url: str
    created_by_user_id: str
    language: str
    idempotency_key: str | None
    purpose: str = TOP_UP
    save_method: bool = False

    def digest(self) -> bytes:
        """Distinguishes a repeat from another request with the same key; the page's language does not count."""
        parts: list[object] = [self.mandate_id, self.user_id, format(self.amount.normalize(), "f"), self.return_url]
        if self.save_method:
            parts.append("saves the method")
        return sha256(orjson.dumps(parts)).digest()


class CreateCheckout:
    """Makes the checkout of an order and gives the address of Stripe's page for it."""

    def __init__(
        self,
        database: Database,
        stripe: StripeGateway,
        *,
        amounts: Collection[Decimal],
        return_origins: Container[str],
        marks: Marks,
        ensure_customer: EnsureCustomer,
        clock: Clock,
        faults: FaultPoints,
    ) -> None:
        self._database = database
        self._stripe = stripe
        self._amounts = amounts
        self._return_origins = return_origins
        self._marks = marks
        self._ensure_customer = ensure_customer
        self._clock = clock
        self._faults = faults
        self._opening: set[UUID] = set()

    async def __call__(self, order: CheckoutOrder) -> str:
        """The address to redirect to. A repeat with the same key finishes what a crash cut off, or answers the same."""
        checkout = self._checkout(order, self._clock())
        async with self._database.transaction() as connection:
            customer = await find_customer(connection, order.mandate_id)
            if customer is not None and customer.wants_method and order.purpose == TOP_UP:
                checkout = replace(checkout, save_method=True)
            stored = await add_checkout(connection, checkout)
        if stored.request_digest != checkout.request_digest:
            raise IdempotencyMismatch
        if stored.redirect_url is not None:
            return stored.redirect_url
        # Of two requests with one key that meet in different processes, Stripe answers one as busy (StripeBusy).
        if stored.id in self._opening:
            raise IdempotencyInProgress
        self._opening.add(stored.id)
        try:
            return await self._open(stored)
        finally:
            self._opening.discard(stored.id)

    def _checkout(self, order: CheckoutOrder, now: datetime) -> Checkout:
        if order.purpose == TOP_UP and order.amount not in self._amounts:
            offered = ", ".join(_shown(amount) for amount in self._amounts)
            raise AmountNotOffered(amounts=offered)
        urls = return_urls(order.return_url, origins=self._return_origins, marks=self._marks)
        if urls is None:
            raise ReturnUrlNotAllowed
        return Checkout(
            id=uuid4(),
            purpose=order.purpose,
            mandate_id=order.mandate_id,
            user_id=order.user_id,
            created_by_user_id=order.created_by_user_id,
            language=order.language,
            amount=order.amount,
            currency=CURRENCY,
            success_url=urls.success,
            cancel_url=urls.cancel,
            idempotency_key=order.idempotency_key,
            request_digest=order.digest(),
            stripe_attempt=1,
            stripe_session_id=None,
            redirect_url=None,
            state=CheckoutState.OPEN,
            created_at=now,
            updated_at=now,
            save_method=order.save_method or order.purpose == SETUP,
        )

    async def _open(self, checkout: Checkout) -> str:
        self._faults.reach("payments_checkout_committed")
        if checkout.save_method and checkout.stripe_customer_id is None:
            customer_id = await self._ensure_customer(checkout.mandate_id)
            async with self._database.transaction() as connection:
                checkout = await save_checkout_customer(connection, checkout, customer_id)
        try:
            session = await open_session(self._stripe, checkout)
        except StripeBusy as error:
            raise IdempotencyInProgress from error
        except StripeFailed:
            async with self._database.transaction() as connection:
                await renew_stripe_attempt(connection, checkout)
            raise
        self._faults.reach("payments_session_opened")
        async with self._database.transaction() as connection:
            await save_session(connection, checkout.id, session_id=session.id, url=session.url, now=self._clock())
        return session.url


def _shown(amount: Decimal) -> str:
    return format(amount.quantize(Decimal(1) if amount == amount.to_integral_value() else Decimal("0.01")), "f")
