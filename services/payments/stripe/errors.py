"""Failures of calls to Stripe: refused, or not possible at the moment."""

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = [
    "StripeBusy",
    "StripeDeclined",
    "StripeFailed",
    "StripeNotConfigured",
    "StripeObjectUnknown",
    "StripeRefused",
    "StripeUnavailable",
]


class StripeUnavailable(Problem):
    """Stripe cannot be reached, or has no time for us; trying the same again can succeed."""

    status = 503
    code = "STRIPE_UNAVAILABLE"
    title = "Payment provider unavailable"
    texts = both(
        "The payment provider is not reachable; please try again.",
        "Der Zahlungsanbieter ist nicht erreichbar; bitte noch einmal versuchen.",
    )


class StripeNotConfigured(Problem):
    """There is no API key."""

    status = 503
    code = "STRIPE_NOT_CONFIGURED"
    title = "Payments not configured"
    texts = both(
        "Payments are not configured on this platform.", "Zahlungen sind auf dieser Plattform nicht eingerichtet."
    )


class StripeFailed(StripeUnavailable):
    """Stripe answered with a fault of its own, which it repeats for the same idempotency key for a day."""


class StripeBusy(StripeUnavailable):
    """Stripe is still busy with a request of the same idempotency key."""


class StripeRefused(Problem):
    """Stripe refused our request: a fault of ours or of the configuration, never of the caller."""


class StripeObjectUnknown(StripeRefused):
    """Stripe has no object of that id."""


class StripeDeclined(Problem):
    """The payment method was declined; `decline_code` is Stripe's word for why, `intent_id` the payment."""

    status = 402
    code = "PAYMENT_DECLINED"
    title = "Payment declined"
    texts = both("The payment was declined.", "Die Zahlung wurde abgelehnt.")

    def __init__(self, *, decline_code: str | None = None, intent_id: str | None = None) -> None:
        super().__init__()
        self.decline_code = decline_code
        self.intent_id = intent_id

    @property
    def needs_authentication(self) -> bool:
        """Whether the payer has to confirm the payment in person, after which it can succeed."""
        return self.decline_code in ("authentication_required", "authentication_not_handled")
