"""Every refusal of the payments service."""

from collections.abc import Mapping
from typing import ClassVar

from services.chassis.problems import Problem

__all__ = [
    "AmountNotOffered",
    "IdempotencyInProgress",
    "IdempotencyMismatch",
    "NotPaid",
    "PaymentNotPlaceable",
    "ReturnUrlNotAllowed",
    "StripeBusy",
    "StripeDeclined",
    "StripeFailed",
    "StripeNotConfigured",
    "StripeObjectUnknown",
    "StripeRefused",
    "StripeUnavailable",
    "UnknownMandate",
    "UnknownSession",
    "WebhookNotConfigured",
    "WebhookNotStored",
    "WebhookRefused",
]


class AmountNotOffered(Problem):
    """The amount is none of those that can be topped up."""

    status = 400
    code = "AMOUNT_NOT_OFFERED"
    title = "Amount not offered"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "Choose one of these amounts in CHF: {amounts}.",
        "de": "Bitte einen dieser Beträge in CHF wählen: {amounts}.",
    }


class ReturnUrlNotAllowed(Problem):
    """The return URL leads somewhere the operator did not name."""

    status = 400
    code = "RETURN_URL_NOT_ALLOWED"
    title = "Return URL not allowed"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "The return URL must be an absolute address of this platform.",
        "de": "Die Rücksprungadresse muss eine vollständige Adresse dieser Plattform sein.",
    }


class UnknownMandate(Problem):
    """No mandate can have this id."""

    status = 404
    code = "MANDATE_NOT_FOUND"
    title = "Mandate not found"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "There is no such mandate.",
        "de": "Diesen Mandanten gibt es nicht.",
    }


class UnknownSession(Problem):
    """Stripe does not know the session, or it is none of ours."""

    status = 404
    code = "SESSION_NOT_FOUND"
    title = "Session not found"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "There is no such checkout session.",
        "de": "Diese Checkout-Sitzung gibt es nicht.",
    }


class NotPaid(Problem):
    """The session is ours and not paid."""

    status = 409
    code = "NOT_PAID"
    title = "Not paid"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "The checkout is not paid; its payment status is {payment_status}.",
        "de": "Der Checkout ist nicht bezahlt; sein Zahlungsstatus ist {payment_status}.",
    }


class PaymentNotPlaceable(Problem):
    """Money arrived in a currency, of an amount or at a time that no event can carry; an operator has to look."""

    status = 409
    code = "PAYMENT_NOT_PLACEABLE"
    title = "Payment cannot be booked"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "The payment's currency, amount or time cannot be booked; it is kept for the operator.",
        "de": "Währung, Betrag oder Zeit der Zahlung können nicht gebucht werden; sie bleibt beim Betreiber liegen.",
    }


class IdempotencyMismatch(Problem):
    """The key was used for another request."""

    status = 422
    code = "IDEMPOTENCY_MISMATCH"
    title = "Idempotency key used before"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "This Idempotency-Key was used for another request.",
        "de": "Dieser Idempotency-Key wurde schon für eine andere Anfrage verwendet.",
    }


class IdempotencyInProgress(Problem):
    """The request with this key is being answered at this moment."""

    status = 409
    code = "IDEMPOTENCY_IN_PROGRESS"
    title = "Request in progress"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "The request with this Idempotency-Key is still in progress.",
        "de": "Die Anfrage mit diesem Idempotency-Key läuft noch.",
    }


class WebhookRefused(Problem):
    """A delivery that is not Stripe's, or not for this mode; the answer never says which."""

    status = 400
    code = "WEBHOOK_REFUSED"
    title = "Webhook refused"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "The delivery was refused.",
        "de": "Die Zustellung wurde abgelehnt.",
    }


class WebhookNotConfigured(Problem):
    """There is no secret to check a signature with."""

    status = 503
    code = "WEBHOOK_NOT_CONFIGURED"
    title = "Webhook not configured"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "The webhook is not configured.",
        "de": "Der Webhook ist nicht eingerichtet.",
    }


class WebhookNotStored(Problem):
    """The event could not be stored; Stripe sends it again."""

    status = 503
    code = "WEBHOOK_NOT_STORED"
    title = "Event not stored"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "The event could not be stored; please send it again.",
        "de": "Das Ereignis konnte nicht gespeichert werden; bitte noch einmal senden.",
    }


class StripeUnavailable(Problem):
    """Stripe cannot be reached, or has no time for us; trying the same again can succeed."""

    status = 503
    code = "STRIPE_UNAVAILABLE"
    title = "Payment provider unavailable"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "The payment provider is not reachable; please try again.",
        "de": "Der Zahlungsanbieter ist nicht erreichbar; bitte noch einmal versuchen.",
    }


class StripeNotConfigured(Problem):
    """There is no API key."""

    status = 503
    code = "STRIPE_NOT_CONFIGURED"
    title = "Payments not configured"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "Payments are not configured on this platform.",
        "de": "Zahlungen sind auf dieser Plattform nicht eingerichtet.",
    }


class StripeFailed(StripeUnavailable):
    """Stripe answered with a fault of its own, which it repeats for the same idempotency key for a day."""


class StripeBusy(StripeUnavailable):
    """Stripe is still busy with a request of the same idempotency key."""


class StripeRefused(Problem):
    """Stripe refused our request: a fault of ours or of the configuration, never of the caller."""


class StripeObjectUnknown(StripeRefused):
    """Stripe has no object of that id."""


class StripeDeclined(Problem):
    """The payment method was declined."""

    status = 402
    code = "PAYMENT_DECLINED"
    title = "Payment declined"
    texts: ClassVar[Mapping[str, str]] = {
        "en": "The payment was declined.",
        "de": "Die Zahlung wurde abgelehnt.",
    }
