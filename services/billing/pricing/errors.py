"""Refusals about prices."""

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = ["PriceFileRefused"]


class PriceFileRefused(Problem):
    """A price file that cannot be read as a whole."""

    status = 422
    code = "PRICE_FILE"
    title = "Unreadable price file"
    # The reason is in English only, as in the lists of unread entries: price files are for operators.
    texts = both(
        "The price file cannot be read: {why}.",
        "Die Preisdatei ist als Ganzes nicht lesbar; es wurde nichts übernommen.",
    )
