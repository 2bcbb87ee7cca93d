"""Payment methods as Stripe has them now: one that was saved is kept for recharges, one that was taken away is not, and
neither is a customer that was deleted."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.customers.repository import forget_customer, note_method
from services.payments.observations import NextNumber
from services.payments.stripe.customers import (
    PaymentMethod,
    default_method,
    is_deleted,
    method_of_setup,
    read_method,
)
from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway

__all__ = ["MethodNoted", "ObservedDeletion", "ObservedMethod"]


@dataclass(frozen=True, slots=True)
class MethodNoted:
    """What became of it: `METHOD_SAVED`, `METHOD_FORGOTTEN` or `CUSTOMER_FORGOTTEN`."""

    outcome: str

    def report(self) -> None:
        """Nothing more is to be told."""


@dataclass(frozen=True, slots=True)
class ObservedMethod:
    """A method and whose it is now. What has saved it says only which it is: it may have been taken away since."""

    method: PaymentMethod
    number: int

    @classmethod
    async def fetch(cls, stripe: StripeGateway, method_id: str, numbers: NextNumber) -> Self:
        """Gets it from Stripe; one that Stripe does not have is nobody's."""
        number = await numbers()
        return cls(await read_method(stripe, method_id), number)

    @classmethod
    async def of_setup(cls, stripe: StripeGateway, setup_intent_id: str, numbers: NextNumber) -> Self | None:
        """The method that a setup has saved; None while it has not."""
        try:
            method_id = await method_of_setup(stripe, setup_intent_id)
        except StripeObjectUnknown:
            return None
        return None if method_id is None else await cls.fetch(stripe, method_id, numbers)

    @classmethod
    async def of_customer(cls, stripe: StripeGateway, customer_id: str, numbers: NextNumber) -> Self | None:
        """The method that a customer has chosen; None where they have chosen none."""
        method_id = await default_method(stripe, customer_id)
        return None if method_id is None else await cls.fetch(stripe, method_id, numbers)

    @classmethod
    async def taken_away(cls, stripe: StripeGateway, method_id: str, numbers: NextNumber) -> Self | None:
        """The method of that id, where its customer has lost it; None for one that somebody has."""
        observed = await cls.fetch(stripe, method_id, numbers)
        return observed if observed.method.customer_id is None else None

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> MethodNoted | None:
        """Notes it in the caller's transaction; None when its customer is not ours."""
        if not await note_method(connection, self.method, number=self.number, now=now):
            return None
        return MethodNoted("METHOD_FORGOTTEN" if self.method.customer_id is None else "METHOD_SAVED")


@dataclass(frozen=True, slots=True)
class ObservedDeletion:
    """A customer that somebody has deleted at Stripe."""

    customer_id: str

    @classmethod
    async def fetch(cls, stripe: StripeGateway, customer_id: str) -> Self | None:
        """Looks whether it is so; None for a customer that is there."""
        return cls(customer_id) if await is_deleted(stripe, customer_id) else None

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> MethodNoted | None:
        """Forgets it in the caller's transaction; None when it was not ours."""
        return MethodNoted("CUSTOMER_FORGOTTEN") if await forget_customer(connection, self.customer_id, now) else None
