"""Refusals of usage over HTTP."""
# ruff: noqa: RUF012

from services.chassis.problems import Problem

__all__ = ["InvalidEvents", "TooManyInFlight"]


class InvalidEvents(Problem):
    """No event of the request is one; each fault is in `results`."""

    status = 422
    code = "INVALID_EVENTS"
    title = "Invalid events"
    texts = {"en": "No event was accepted: {first}.", "de": "Kein Ereignis wurde angenommen: {first}."}


class TooManyInFlight(Problem):
    """More events wait for Kafka than may."""

    status = 429
    code = "TOO_MANY_IN_FLIGHT"
    title = "Too many requests"
    texts = {
        "en": "Too many events are being written; try again in a second.",
        "de": "Zu viele Ereignisse werden gerade geschrieben; bitte in einer Sekunde noch einmal versuchen.",
    }

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})
