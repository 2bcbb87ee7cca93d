"""Refusals about accounts and credits."""

from typing import ClassVar

from services.billing.errors import InvalidField
from services.chassis.problems import Problem

__all__ = ["NoAccount", "NotAMember", "UserRequired", "ZeroCredit"]


class NoAccount(Problem):
    """The id names neither a pool nor a member's account."""

    status = 404
    code = "ACCOUNT_UNKNOWN"
    title = "Unknown account"
    texts: ClassVar = {"en": "There is no such account.", "de": "Dieses Konto gibt es nicht."}


class ZeroCredit(Problem):
    """A credit of zero."""

    status = 400
    code = "ZERO_CREDIT"
    title = "Zero credit"
    texts: ClassVar = {"en": "The amount must not be zero.", "de": "Der Betrag darf nicht null sein."}


class UserRequired(InvalidField):
    """Money of a PREPAY_USER mandate is on its members' budgets."""

    def __init__(self) -> None:
        super().__init__(
            "userId",
            en="is required, the money of this mandate is on its members' budgets",
            de="ist nötig, das Geld dieses Mandanten liegt auf den Budgets der Mitglieder",
        )


class NotAMember(InvalidField):
    """The user named is no enabled member of the mandate."""

    def __init__(self) -> None:
        super().__init__(
            "userId", en="is no member of this mandate", de="ist kein Mitglied dieses Mandanten", code="NOT_A_MEMBER"
        )
