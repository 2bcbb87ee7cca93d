"""The states of a subscription: which changes are legal and what each is called, and when it may be used."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from rappen_contracts.subscription.v1 import SubscriptionState

__all__ = ["LEGAL", "OCCUPYING", "OPENINGS", "IllegalTransition", "is_operative", "transition_name"]

# A mandate has at most one subscription in these states; the database holds it with an index over exactly them.
OCCUPYING: Final[tuple[SubscriptionState, ...]] = ("TRIALING", "ACTIVE", "PAST_DUE", "CANCELED")

# How a record may begin: at a checkout, or at once when no payment is needed.
OPENINGS: Final[Mapping[SubscriptionState, str]] = {
    "PENDING": "checkout_started",
    "TRIALING": "trial_started",
    "ACTIVE": "activated",
}

# Every legal change by its name; what is not here is refused. Nothing returns to PENDING, SCHEDULED or TRIALING, and
# EXPIRED is final.
LEGAL: Final[Mapping[tuple[SubscriptionState, SubscriptionState], str]] = {
    ("PENDING", "TRIALING"): "trial_started",
    ("PENDING", "SCHEDULED"): "scheduled",
    ("PENDING", "ACTIVE"): "activated",
    ("PENDING", "PAST_DUE"): "first_payment_failed",
    ("PENDING", "CANCELED"): "set_to_end",
    ("PENDING", "EXPIRED"): "abandoned",
    ("SCHEDULED", "ACTIVE"): "promoted",
    ("SCHEDULED", "PAST_DUE"): "first_payment_failed",
    ("SCHEDULED", "CANCELED"): "set_to_end",
    ("SCHEDULED", "EXPIRED"): "withdrawn",
    ("TRIALING", "ACTIVE"): "activated",
    ("TRIALING", "PAST_DUE"): "first_payment_failed",
    ("TRIALING", "CANCELED"): "set_to_end",
    ("TRIALING", "EXPIRED"): "trial_ended",
    ("ACTIVE", "ACTIVE"): "renewed",
    ("ACTIVE", "PAST_DUE"): "payment_failed",
    ("ACTIVE", "CANCELED"): "set_to_end",
    ("ACTIVE", "EXPIRED"): "ended",
    ("PAST_DUE", "ACTIVE"): "recovered",
    ("PAST_DUE", "PAST_DUE"): "payment_failed_again",
    ("PAST_DUE", "CANCELED"): "set_to_end",
    ("PAST_DUE", "EXPIRED"): "ended",
    ("CANCELED", "ACTIVE"): "resumed",
    ("CANCELED", "PAST_DUE"): "payment_failed",
    ("CANCELED", "CANCELED"): "end_moved",
    ("CANCELED", "EXPIRED"): "ended",
}


class IllegalTransition(Exception):  # noqa: N818 - the table's own word.
    """A change that the table does not know."""

    def __init__(self, from_state: SubscriptionState | None, to_state: SubscriptionState) -> None:
        super().__init__(f"{from_state or 'nothing'} to {to_state}")
        self.from_state = from_state
        self.to_state = to_state


def transition_name(from_state: SubscriptionState | None, to_state: SubscriptionState) -> str:
    """The name of a legal change; `from_state` is null for a new record."""
    name = OPENINGS.get(to_state) if from_state is None else LEGAL.get((from_state, to_state))
    if name is None:
        raise IllegalTransition(from_state, to_state)
    return name


def is_operative(
    state: SubscriptionState, *, period_end: datetime | None, grace_ends_at: datetime | None, now: datetime
) -> bool:
    """Whether a subscription may be used now; past due without a grace (unpaid, paused) it may not."""
    if state == "CANCELED":
        return period_end is not None and now < period_end
    if state == "PAST_DUE":
        return grace_ends_at is not None and now < grace_ends_at
    return state in ("TRIALING", "ACTIVE")
