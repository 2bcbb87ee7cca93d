"""The session of a checkout at Stripe, made from its row alone: a repeat sends Stripe the very same, whatever was
configured meanwhile."""

from services.chassis.validation import say
from services.payments.checkouts.domain import PAYMENT_TEXT, SETUP, TOP_UP_TEXT, Checkout
from services.payments.stripe.customers import Setup, open_setup
from services.payments.stripe.gateway import StripeGateway, TopUp
from services.payments.stripe.objects import OpenedSession

__all__ = ["open_session"]


async def open_session(stripe: StripeGateway, checkout: Checkout) -> OpenedSession:
    """Opens it, or gives the one that was opened by the same row."""
    key = f"checkout:{checkout.id}:{checkout.stripe_attempt}"
    if checkout.purpose == SETUP and checkout.stripe_customer_id is not None:
        setup = Setup(
            checkout_id=checkout.id,
            mandate_id=checkout.mandate_id,
            customer_id=checkout.stripe_customer_id,
            language=checkout.language,
            success_url=checkout.success_url,
            cancel_url=checkout.cancel_url,
        )
        return await open_setup(stripe, setup, idempotency_key=key)
    return await stripe.open_top_up(_top_up(checkout), idempotency_key=key)


def _top_up(checkout: Checkout) -> TopUp:
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
        customer_id=checkout.stripe_customer_id,
    )
