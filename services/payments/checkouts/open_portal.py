"""The page of Stripe's on which a mandate's payment methods, invoices and subscription are managed."""

from collections.abc import Container

from services.chassis.return_url import origin_of
from services.payments.checkouts.errors import ReturnUrlNotAllowed
from services.payments.customers.ensure_customer import EnsureCustomer
from services.payments.stripe.customers import open_portal
from services.payments.stripe.gateway import StripeGateway

__all__ = ["OpenPortal"]


class OpenPortal:
    """Gives its address, for a while."""

    def __init__(
        self, stripe: StripeGateway, ensure_customer: EnsureCustomer, *, return_origins: Container[str]
    ) -> None:
        self._stripe = stripe
        self._ensure_customer = ensure_customer
        self._return_origins = return_origins

    async def __call__(self, mandate_id: str, *, return_url: str, language: str) -> str:
        """Raises ReturnUrlNotAllowed for a page that is not the operator's."""
        if origin_of(return_url) not in self._return_origins:
            raise ReturnUrlNotAllowed
        customer_id = await self._ensure_customer(mandate_id)
        return await open_portal(self._stripe, customer_id, return_url=return_url, language=language)
