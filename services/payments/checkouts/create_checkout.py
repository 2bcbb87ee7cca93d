"""Starting a top-up: the order is committed before Stripe is called, so no crash can lose or double it."""

from collections.abc import Collection, Container
from dataclasses import dataclass
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
from services.chassis.validation import say
from services.payments.checkouts.domain import PAYMENT_TEXT, TOP_UP_TEXT, Checkout, CheckoutState
from services.payments.checkouts.errors import (
    AmountNotOffered,
    IdempotencyInProgress,
    ReturnUrlNotAllowed,
)
from services.payments.checkouts.repository import add_checkout, renew_stripe_attempt, save_session
from services.payments.stripe.errors import StripeBusy, StripeFailed
from services.payments.stripe.gateway import StripeGateway, TopUp

__all__ = ["CURRENCY", "CreateCheckout", "TopUpOrder"]

CURRENCY = "CHF"
PURPOSE = "top_up"


@dataclass(frozen=True, slots=True)
class TopUpOrder:
    """What an administrator of the mandate asks for."""

    mandate_id: str
    user_id: str | None
    amount: Decimal
    return_url: str
    created_by_user_id: str
    language: str
    idempotency_key: str | None

    def digest(self) -> bytes:
        """Distinguishes a repeat from another request with the same key; the page's language does not count."""
        parts = [self.mandate_id, self.user_id, format(self.amount.normalize(), "f"), self.return_url]
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
        clock: Clock,
        faults: FaultPoints,
    ) -> None:
        self._database = database
        self._stripe = stripe
        self._amounts = amounts
        self._return_origins = return_origins
        self._marks = marks
        self._clock = clock
        self._faults = faults
        self._opening: set[UUID] = set()

    async def __call__(self, order: TopUpOrder) -> str:
        """The address to redirect to. A repeat with the same key finishes what a crash cut off, or answers the same."""
        checkout = self._checkout(order, self._clock())
        async with self._database.transaction() as connection:
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

    def _checkout(self, order: TopUpOrder, now: datetime) -> Checkout:
        if order.amount not in self._amounts:
            offered = ", ".join(_shown(amount) for amount in self._amounts)
            raise AmountNotOffered(amounts=offered)
        urls = return_urls(order.return_url, origins=self._return_origins, marks=self._marks)
        if urls is None:
            raise ReturnUrlNotAllowed
        return Checkout(
            id=uuid4(),
            purpose=PURPOSE,
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
        )

    async def _open(self, checkout: Checkout) -> str:
        self._faults.reach("payments_checkout_committed")
        try:
            session = await self._stripe.open_top_up(
                _top_up(checkout), idempotency_key=f"checkout:{checkout.id}:{checkout.stripe_attempt}"
            )
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


def _top_up(checkout: Checkout) -> TopUp:
    """Made from the row alone: a repeat sends Stripe the very same, whatever was configured meanwhile."""
    return TopUp(
        checkout_id=checkout.id,
        mandate_id=checkout.mandate_id,
        user_id=checkout.user_id,
        amount=checkout.amount,
        currency=checkout.currency,
        name=say(TOP_UP_TEXT, checkout.language),
        description=say(PAYMENT_TEXT, checkout.language),
        language=checkout.language,
        success_url=checkout.success_url,
        cancel_url=checkout.cancel_url,
    )


def _shown(amount: Decimal) -> str:
    return format(amount.quantize(Decimal(1) if amount == amount.to_integral_value() else Decimal("0.01")), "f")
