"""Refusals of top-ups."""

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = [
    "AmountNotOffered",
    "IdempotencyInProgress",
    "NotPaid",
    "PaymentNotPlaceable",
    "ReturnUrlNotAllowed",
    "UnknownSession",
]


class AmountNotOffered(Problem):
    """The amount is none of those that can be topped up."""

    status = 400
    code = "AMOUNT_NOT_OFFERED"
    title = "Amount not offered"
    texts = both(
        "Choose one of these amounts in CHF: {amounts}.", "Bitte einen dieser Beträge in CHF wählen: {amounts}."
    )


class ReturnUrlNotAllowed(Problem):
    """The return URL leads somewhere the operator did not name."""

    status = 400
    code = "RETURN_URL_NOT_ALLOWED"
    title = "Return URL not allowed"
    texts = both(
        "The return URL must be an absolute address of this platform.",
        "Die Rücksprungadresse muss eine vollständige Adresse dieser Plattform sein.",
    )


class UnknownSession(Problem):
    """Stripe does not know the session, or it is none of ours."""

    status = 404
    code = "SESSION_NOT_FOUND"
    title = "Session not found"
    texts = both("There is no such checkout session.", "Diese Checkout-Sitzung gibt es nicht.")


class NotPaid(Problem):
    """The session is ours and not paid."""

    status = 409
    code = "NOT_PAID"
    title = "Not paid"
    texts = both(
        "The checkout is not paid; its payment status is {payment_status}.",
        "Der Checkout ist nicht bezahlt; sein Zahlungsstatus ist {payment_status}.",
    )


class PaymentNotPlaceable(Problem):
    """Money arrived in a currency, of an amount or at a time that no event can carry; an operator has to look."""

    status = 409
    code = "PAYMENT_NOT_PLACEABLE"
    title = "Payment cannot be booked"
    texts = both(
        "The payment's currency, amount or time cannot be booked; it is kept for the operator.",
        "Währung, Betrag oder Zeit der Zahlung können nicht gebucht werden; sie bleibt beim Betreiber liegen.",
    )


class IdempotencyInProgress(Problem):
    """The request with this key is being answered at this moment."""

    status = 409
    code = "IDEMPOTENCY_IN_PROGRESS"
    title = "Request in progress"
    texts = both(
        "The request with this Idempotency-Key is still in progress.",
        "Die Anfrage mit diesem Idempotency-Key läuft noch.",
    )
