"""Request and response models of the routes of accounts and credits."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints, WithJsonSchema

from services.billing.http import ChfNumber, Identifier
from services.chassis.bodies import AnswerBody, RequestBody
from services.chassis.validation import value_fault

__all__ = ["AccountChange", "Credit", "Unknown"]

DESCRIPTION_LENGTH_MAX = 500


def _said(text: str) -> str:
    if "\x00" in text or not text.strip():
        raise value_fault(
            "text",
            en="text that is not blank and has no NUL is expected",
            de="Text ohne NUL, der nicht leer ist, wird erwartet",
        )
    return text


Description = Annotated[
    str,
    StringConstraints(max_length=DESCRIPTION_LENGTH_MAX),
    AfterValidator(_said),
    WithJsonSchema({"type": "string", "maxLength": DESCRIPTION_LENGTH_MAX, "pattern": r"\S"}),
]


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
