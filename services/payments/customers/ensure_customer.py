"""The customer of a mandate at Stripe, made when it is first needed and once."""

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.payments.customers.repository import ensure_row, renew_stripe_attempt, save_customer_id
from services.payments.stripe.customers import create_customer
from services.payments.stripe.errors import StripeFailed
from services.payments.stripe.gateway import StripeGateway

__all__ = ["EnsureCustomer"]


class EnsureCustomer:
    """Gives the id of a mandate's customer.

    The row is committed before Stripe is called, and the key comes from it, so several that call at once, or one after
    a crash, get the same customer. The first id that is saved holds.
    """

    def __init__(self, database: Database, stripe: StripeGateway, *, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._stripe = stripe
        self._clock = clock
        self._faults = faults

    async def __call__(self, mandate_id: str) -> str:
        """Raises StripeUnavailable where it cannot be made now; trying again later does not make another one."""
        async with self._database.transaction() as connection:
            customer = await ensure_row(connection, mandate_id, self._clock())
        if customer.stripe_customer_id is not None:
            return customer.stripe_customer_id
        key = f"customer:{mandate_id}" + (f":{customer.stripe_attempt}" if customer.stripe_attempt > 1 else "")
        try:
            made = await create_customer(self._stripe, mandate_id, idempotency_key=key)
        except StripeFailed:
            async with self._database.transaction() as connection:
                await renew_stripe_attempt(connection, customer)
            raise
        self._faults.reach("payments_customer_made")
        async with self._database.transaction() as connection:
            return await save_customer_id(connection, mandate_id, made, self._clock())
