"""What the live feed refuses."""

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = ["BadLastEventId", "FeedUnavailable", "TooManyStreams"]


class BadLastEventId(Problem):
    """The header is not the id of an event of this feed."""

    status = 400
    code = "BAD_LAST_EVENT_ID"
    title = "Unknown event id"
    texts = both(
        "Last-Event-ID has to be the id of an event that this stream sent.",
        "Last-Event-ID muss die Kennung eines Ereignisses sein, das dieser Strom gesendet hat.",
    )


class TooManyStreams(Problem):
    """The caller, or everybody together, has as many streams open as there may be."""

    status = 429
    code = "TOO_MANY_STREAMS"
    title = "Too many streams"
    texts = both(
        "Too many streams are open; close one, or try again in a moment.",
        "Zu viele Ströme sind offen; schliessen Sie einen, oder versuchen Sie es gleich noch einmal.",
    )


class FeedUnavailable(Problem):
    """The broker that has the events does not answer."""

    status = 503
    code = "FEED_UNAVAILABLE"
    title = "No live updates"
    texts = both(
        "Live updates are not available at the moment; try again shortly.",
        "Live-Aktualisierungen sind im Moment nicht verfügbar; versuchen Sie es gleich noch einmal.",
    )
