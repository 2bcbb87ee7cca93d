"""What a mandate's charges depend on."""

from typing import NamedTuple

from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import BillingModel
from services.billing.money import Markup

__all__ = ["Terms"]


class Terms(NamedTuple):
    """What a mandate's charges depend on; `version` tells when one of them has changed."""

    mandate_no: int
    billing_model: BillingModel
    markup: Markup
    calendar: Calendar
    version: int
    # Whether any of its events was claimed without a charge, so that a new one has to be looked up among them.
    has_uncharged: bool
