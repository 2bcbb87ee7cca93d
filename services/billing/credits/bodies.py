"""Request and response models of the routes of accounts and credits."""

from typing import Annotated

from pydantic import ConfigDict, StringConstraints, WithJsonSchema

from rappen_contracts.types import Money, NonNegativeMoney, Timestamp
from services.billing.http import SAID, ChfNumber, Description, Identifier
from services.chassis.bodies import AnswerBody, RequestBody, Time
from services.chassis.validation import Form

__all__ = ["AccountChange", "Credit", "Promotion", "PromotionOffer", "Redemption", "Unknown"]

Code = Annotated[
    str,
    Form(
        r"^[A-Za-z0-9._-]{4,64}$",
        "a code is 4 to 64 letters, digits or the characters . _ -",
        "ein Code besteht aus 4 bis 64 Buchstaben, Ziffern oder den Zeichen . _ -",
    ),
]
REASON_LENGTH_MAX = 200


class Credit(RequestBody):
    """Money given, or with a negative amount taken; `userId` is required where members have budgets of their own.

    At most what the platform allows at once, 100,000 CHF unless it is configured otherwise. Without a description it is
    a "Manual credit".
    """

    user_id: Identifier | None = None
    amount: ChfNumber
    description: Description | None = None


class AccountChange(RequestBody):
    """Whether an account may be used."""

    enabled: bool


class UnknownUsage(AnswerBody):
    """A member with usage whom the directory does not know, or whose mandate it does not know."""

    mandate_id: str
    user_id: str
    mandate_unknown: bool
    usage_count: int


class Unknown(AnswerBody):
    """What usage has named and the directory does not know."""

    items: list[UnknownUsage]


class PromotionOffer(RequestBody):
    """Credit that expires. Without a code it is granted to the mandate at once; with one, whoever administers a mandate
    may redeem it, in that mandate alone where one is named. Capitals and small letters of a code differ.

    A name that is not known is refused: with a misspelt `code` the mandate would get the money at once.
    """

    model_config = ConfigDict(extra="forbid")

    mandate_id: Identifier | None
    amount: NonNegativeMoney
    expires_at: Timestamp
    reason: Annotated[
        str,
        StringConstraints(max_length=REASON_LENGTH_MAX),
        SAID,
        WithJsonSchema({"type": "string", "maxLength": REASON_LENGTH_MAX, "pattern": r"\S"}),
    ]
    code: Code | None = None


class Redemption(RequestBody):
    """A code, and the mandate that gets its credit; in PREPAY_USER its enabled members, in equal parts."""

    mandate_id: Identifier
    code: Code


class Promotion(AnswerBody):
    """A promotion; `mandateId` is the mandate that may have it or has it, null for any that redeems its code."""

    id: str
    mandate_id: str | None
    amount: Money
    expires_at: Time
    reason: str
    code: str | None
