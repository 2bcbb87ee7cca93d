"""Refusals of usage over HTTP."""

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = ["InvalidEvents", "TooManyInFlight"]


class InvalidEvents(Problem):
    """No event of the request is one; each fault is in `results`."""

    status = 422
    code = "INVALID_EVENTS"
    title = "Invalid events"
    texts = both("No event was accepted: {first}.", "Kein Ereignis wurde angenommen: {first}.")


class TooManyInFlight(Problem):
    """More events wait for Kafka than may."""

    status = 429
    code = "TOO_MANY_IN_FLIGHT"
    title = "Too many requests"
    texts = both(
        "Too many events are being written; try again in a second.",
        "Zu viele Ereignisse werden gerade geschrieben; bitte in einer Sekunde noch einmal versuchen.",
    )

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})
