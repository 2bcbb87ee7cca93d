"""Why something fetched from Stripe is fetched again."""

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = ["FetchedTooEarly"]


class FetchedTooEarly(Problem):
    """Something newer was published while this was fetched, so it may be older and is fetched again."""

    status = 503
    code = "FETCHED_TOO_EARLY"
    title = "Fetched too early"
    texts = both("This was changed meanwhile.", "Das wurde inzwischen geändert.")
