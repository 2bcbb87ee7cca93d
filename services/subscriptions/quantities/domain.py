"""How many members and feature instances a subscription is charged for, and when Stripe is asked again; pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

__all__ = ["Counts", "KeptInStep", "next_look"]

_RETRY: Final = timedelta(minutes=1)
_RETRY_MAX: Final = timedelta(hours=1)


class Counts(NamedTuple):
    """What is in use, or charged for."""

    members: int
    feature_instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptInStep:
    """A subscription at Stripe: what it is charged for there, as far as known, and what was last asked to be."""

    subscription_id: UUID
    mandate_id: str
    version: int
    requested: Counts | None
    requested_at: datetime | None
    tries: int
    charged: Counts | None


def next_look(kept: KeptInStep, wanted: Counts, now: datetime) -> datetime | None:
    """When to look at it again; None where both agree, and now where there is something to ask for.

    The same is asked again where no answer came, or where it could not be done, after more and more time.
    """
    if kept.charged == wanted:
        return None
    if kept.requested != wanted or kept.requested_at is None:
        return now
    delay = min(_RETRY * (1 << min(kept.tries, 10)), _RETRY_MAX)
    return max(now, kept.requested_at + delay)
