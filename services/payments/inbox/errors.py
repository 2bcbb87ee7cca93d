"""Answers to deliveries that are not stored."""

from collections.abc import Mapping
from typing import ClassVar

from services.chassis.problems import Problem

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
