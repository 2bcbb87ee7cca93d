"""When a balance is low: the amount at or under which a mandate wants to be warned. Pure.

The rule is here once for Python and once for SQL, because it is applied to the accounts that a batch moved where they
are; `tests/property/test_low_balances.py` holds the two together.
"""

from decimal import Decimal
from typing import Final

from services.billing.ledger.domain import AccountType, BillingModel
from services.billing.money import EXACT

__all__ = ["IS_LOW", "THRESHOLD", "is_warning", "low_at", "warning_threshold"]

# What cannot be a percentage of a balance counts as nothing; in PostgreSQL, NaN is larger than every number.
_PERCENT: Final = (
    "CASE WHEN {m}.warning_threshold_percent BETWEEN 0 AND 100 THEN {m}.warning_threshold_percent ELSE 0 END"
)
# SQL with the names of the account and of its mandate: numeric micro-CHF, so that nothing stored can make it overflow.
THRESHOLD: Final = (
    f"trunc({_PERCENT} * CASE {{m}}.billing_model WHEN 'CREDIT_POSTPAY' THEN {{a}}.credit_limit"
    " ELSE {a}.balance_after_last_credit END * 0.01)"
)
# Whether the balance is low, never null: only on an account that the billing model looks at, and that has moved at all,
# because a balance that was always nothing has not fallen.
IS_LOW: Final = (
    "({a}.seq > 0 AND CASE {m}.billing_model WHEN 'UNLIMITED' THEN false"
    " WHEN 'CREDIT_POSTPAY' THEN {a}.type = 'MANDATE' AND {a}.credit_limit IS NOT NULL"
    f" AND {{a}}.credit_limit::numeric + {{a}}.balance <= {THRESHOLD}"
    f" WHEN 'PREPAY_USER' THEN {{a}}.type = 'USER' AND {{a}}.balance <= {THRESHOLD}"
    f" ELSE {{a}}.type = 'MANDATE' AND {{a}}.balance <= {THRESHOLD} END)"
)


def warning_threshold(
    model: BillingModel, percent: Decimal, balance_after_last_credit: int, credit_limit: int | None
) -> int:
    """The balance at which warnings begin, in whole micro-CHF, rounded towards zero: a share of the balance after the
    last credit, or of a postpaid limit."""
    if model == "UNLIMITED":
        return 0
    whole = (credit_limit or 0) if model == "CREDIT_POSTPAY" else balance_after_last_credit
    return int(EXACT.multiply(percent, Decimal(whole)).scaleb(-2, EXACT))


def is_warning(model: BillingModel, balance: int, threshold: int, credit_limit: int | None) -> bool:
    """Whether a balance is at or under its threshold."""
    if model == "UNLIMITED":
        return False
    if model == "CREDIT_POSTPAY":
        return credit_limit is not None and credit_limit + balance <= threshold
    return balance <= threshold


def low_at(kind: AccountType, model: BillingModel, threshold: int | None, credit_limit: int | None) -> int | None:
    """The balance at or under which an account is low, by its warning threshold; None where none is, as on an account
    that the billing model does not look at."""
    if model == "UNLIMITED" or kind != ("USER" if model == "PREPAY_USER" else "MANDATE") or threshold is None:
        return None
    if model == "CREDIT_POSTPAY":
        return None if credit_limit is None else threshold - credit_limit
    return threshold
