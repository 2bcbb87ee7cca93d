"""Request models of the routes of corrections."""

from services.billing.http import Description
from services.chassis.bodies import RequestBody

__all__ = ["Reversal"]


class Reversal(RequestBody):
    """Why a charge is taken back; the reason is kept with the reversing transaction."""

    reason: Description
