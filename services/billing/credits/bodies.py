"""Request and response models of the routes of accounts and credits."""

from services.billing.http import ChfNumber, Description, Identifier
from services.chassis.bodies import AnswerBody, RequestBody

__all__ = ["AccountChange", "Credit", "Unknown"]


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
