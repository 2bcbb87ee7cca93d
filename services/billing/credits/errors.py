"""Refusals about accounts and credits."""

from services.billing.errors import InvalidField
from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = [
    "CodeTaken",
    "CodeUnknown",
    "ExpiresTooEarly",
    "NoAccount",
    "NotAMember",
    "PromotionExpired",
    "PromotionForNobody",
    "PromotionRedeemed",
    "UserRequired",
    "ZeroCredit",
]


class NoAccount(Problem):
    """The id names neither a pool nor a member's account."""

    status = 404
    code = "ACCOUNT_UNKNOWN"
    title = "Unknown account"
    texts = both("There is no such account.", "Dieses Konto gibt es nicht.")


class ZeroCredit(Problem):
    """A credit of zero."""

    status = 400
    code = "ZERO_CREDIT"
    title = "Zero credit"
    texts = both("The amount must not be zero.", "Der Betrag darf nicht null sein.")


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


class PromotionForNobody(InvalidField):
    """Neither a mandate that gets it nor a code by which others do."""

    def __init__(self) -> None:
        super().__init__("code", en="is required without a mandateId", de="ist ohne mandateId nötig")


class ExpiresTooEarly(InvalidField):
    """A promotion that would be over when it begins."""

    def __init__(self) -> None:
        super().__init__(
            "expiresAt", en="a time in the future is expected", de="ein Zeitpunkt in der Zukunft wird erwartet"
        )


class CodeTaken(Problem):
    """Another promotion has this code."""

    status = 409
    code = "CODE_TAKEN"
    title = "Code taken"
    texts = both("Another promotion has this code.", "Eine andere Aktion hat diesen Code.")


class CodeUnknown(Problem):
    """No promotion for this mandate has this code."""

    status = 404
    code = "CODE_UNKNOWN"
    title = "Unknown code"
    texts = both("There is no such code.", "Diesen Code gibt es nicht.")


class PromotionExpired(Problem):
    """The promotion is over."""

    status = 409
    code = "PROMOTION_EXPIRED"
    title = "Promotion expired"
    texts = both("This promotion has expired.", "Diese Aktion ist abgelaufen.")


class PromotionRedeemed(Problem):
    """The mandate has it already."""

    status = 409
    code = "PROMOTION_REDEEMED"
    title = "Promotion redeemed"
    texts = both("This mandate has redeemed this code already.", "Dieser Mandant hat diesen Code schon eingelöst.")
