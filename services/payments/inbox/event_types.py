"""The types of Stripe's events that something listens to, each with the class of the object that it is about.

What an event does follows from its object as Stripe has it now, never from its type or its order, so every type of one
kind of object has the same class.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol, Self

from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.checkouts.settle_checkout import ObservedSession
from services.payments.stripe.gateway import StripeGateway

__all__ = ["EVENT_TYPES", "Effect"]


class Effect(Protocol):
    """What an object has done to our books."""

    @property
    def outcome(self) -> str:
        """The word that is stored with the event and counted."""

    def report(self) -> None:
        """Counts and logs it; called after the commit."""


class ObservedObject(Protocol):
    """An object as Stripe has it now."""

    @classmethod
    async def fetch(cls, stripe: StripeGateway, object_id: str) -> Self | None:
        """Gets it from Stripe, before any transaction; None when there is none of that id."""

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> Effect | None:
        """Brings our books to it in the caller's transaction; None when it is not ours. Repeats change nothing."""


EVENT_TYPES: Mapping[str, type[ObservedObject]] = {
    "checkout.session.completed": ObservedSession,
    "checkout.session.async_payment_succeeded": ObservedSession,
    "checkout.session.async_payment_failed": ObservedSession,
    "checkout.session.expired": ObservedSession,
}
