"""What a mandate's charges depend on, and how money is split among its members. Pure."""

from typing import Literal, NamedTuple

from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import BillingModel
from services.billing.money import Markup

__all__ = ["LateEvents", "Terms", "share_equally"]

# What becomes of usage that comes late: it counts on its own day, in the period open now, or is refused.
LateEvents = Literal["own", "next", "refuse"]


class Terms(NamedTuple):
    """What a mandate's charges depend on; `pricing_version` grows whenever one of them changes."""

    mandate_no: int
    billing_model: BillingModel
    markup: Markup
    calendar: Calendar
    pricing_version: int
    # Whether any of its events was claimed without a posting: then new events have to be looked up in
    # `unposted_events`.
    has_unposted: bool
    # Whether any of its usage was cancelled: then new usage has to be looked up in `cancellations`.
    has_cancellations: bool
    late_events: LateEvents = "own"
    # From which age on, in days, usage is refused where it is.
    late_event_days: int = 0


def share_equally(total: int, count: int) -> list[int]:
    """`count` parts, in micro-CHF, that add up to `total`, which may be negative; the first parts get what is left."""
    if count < 1:
        raise ValueError("nobody to share with")
    part, rest = divmod(abs(total), count)
    sign = 1 if total >= 0 else -1
    return [sign * (part + (1 if number < rest else 0)) for number in range(count)]
