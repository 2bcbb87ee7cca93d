"""What a mandate's charges depend on, and how money is split among its members. Pure."""

from typing import NamedTuple

from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import BillingModel
from services.billing.money import Markup

__all__ = ["Terms", "share_equally"]


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


def share_equally(total: int, count: int) -> list[int]:
    """`count` parts, in micro-CHF, that add up to `total`, which may be negative; the first parts get what is left."""
    if count < 1:
        raise ValueError("nobody to share with")
    part, rest = divmod(abs(total), count)
    sign = 1 if total >= 0 else -1
    return [sign * (part + (1 if number < rest else 0)) for number in range(count)]
