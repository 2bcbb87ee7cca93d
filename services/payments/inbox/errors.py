"""Answers to deliveries that are not stored."""

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = [
    "WebhookNotConfigured",
    "WebhookNotStored",
    "WebhookRefused",
]


class WebhookRefused(Problem):
    """A delivery that is not Stripe's, or not for this mode; the answer never says which."""

    status = 400
    code = "WEBHOOK_REFUSED"
    title = "Webhook refused"
    texts = both("The delivery was refused.", "Die Zustellung wurde abgelehnt.")


class WebhookNotConfigured(Problem):
    """There is no secret to check a signature with."""

    status = 503
    code = "WEBHOOK_NOT_CONFIGURED"
    title = "Webhook not configured"
    texts = both("The webhook is not configured.", "Der Webhook ist nicht eingerichtet.")


class WebhookNotStored(Problem):
    """The event could not be stored; Stripe sends it again."""

    status = 503
    code = "WEBHOOK_NOT_STORED"
    title = "Event not stored"
    texts = both(
        "The event could not be stored; please send it again.",
        "Das Ereignis konnte nicht gespeichert werden; bitte noch einmal senden.",
    )
