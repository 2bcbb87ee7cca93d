"""Request and response models of the routes of corrections."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from rappen_contracts.types import Money, Name, Timestamp
from services.billing.http import Description
from services.chassis.bodies import AnswerBody, RequestBody, Time

__all__ = ["Rerate", "Rerating", "Reversal"]


class Reversal(RequestBody):
    """Why a charge is taken back; the reason is kept with the reversing transaction."""

    reason: Description


class Rerate(RequestBody):
    """Which charges are priced again: those of usage of [from, to), of a provider and model where they are named,
    exactly as reported. With `preview` nothing is written.

    A name that is not known is refused: with a misspelt `model` the charges of all models would be priced again.
    """

    model_config = ConfigDict(extra="forbid")

    from_: Annotated[Timestamp, Field(alias="from")]
    to: Timestamp
    provider: Name | None = None
    model: Name | None = None
    preview: bool


class RepricedCharges(AnswerBody):
    """Charges that were priced again, those whose price differs, and the exact prices of all of them, rounded."""

    charges: int
    differing: int
    old_total: Money
    new_total: Money
    difference: Money


class RepricedMandate(RepricedCharges):
    """The charges of one mandate."""

    mandate_id: str


class NotPricedAgain(AnswerBody):
    """Charges that are left as they are: their model has no price or their currency no rate any more, they do not keep
    what they were priced from, or no balance could hold the correction."""

    reason: Literal["NO_PRICE", "NO_RATE", "NOT_KEPT", "AMOUNT_TOO_LARGE"]
    provider: str | None
    model: str | None
    currency: str | None
    charges: int


class Rerating(RepricedCharges):
    """A re-rating: what it would change, or how far it is. Mandates are in the order of their differences, the largest
    first; `moreMandates` are not listed."""

    id: str | None
    state: Literal["PREVIEW", "RUNNING", "DONE"]
    from_: Annotated[Time, Field(alias="from")]
    to: Time
    provider: str | None
    model: str | None
    started_at: Time | None
    started_by_user_id: str | None
    finished_at: Time | None
    mandates: list[RepricedMandate]
    more_mandates: int
    not_priced: list[NotPricedAgain]
