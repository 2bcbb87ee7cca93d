"""Whether an AI call may go ahead: the first reason against it, in a fixed order. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from services.billing.checks.limits import Limit, LimitUse
from services.billing.ledger.domain import BillingModel

__all__ = ["Decision", "Eligibility", "Funds", "Reason", "decide"]

Reason = Literal[
    "NOT_A_MEMBER",
    "ACCOUNT_DISABLED",
    "PROVIDER_NOT_ALLOWED",
    "NO_ACTIVE_SUBSCRIPTION",
    "SUB_LIMIT_EXCEEDED",
    "INSUFFICIENT_BALANCE",
    "CREDIT_LIMIT_EXCEEDED",
]


@dataclass(frozen=True, slots=True)
class Funds:
    """The charged account, in micro-CHF; a credit limit of None is no limit."""

    model: BillingModel
    balance: int
    held: int
    credit_limit: int | None
    block_on_zero_balance: bool


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Everything about mandate and member that can speak against a call before money does."""

    member: bool
    account_enabled: bool
    provider_allowed: bool
    # None: the mandate never had a subscription and lives on its credit.
    subscription_operative: bool | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer; the shortfall (micro-CHF) is given also where it does not block. `limit` is the one that is exceeded,
    where that is the reason."""

    reason: Reason | None
    shortfall: int
    limit: Limit | None = None


def decide(
    eligibility: Eligibility, funds: Funds, required: int, *, limits: Sequence[LimitUse] = (), free: bool = False
) -> Decision:
    """The first reason that applies, or none. What is `free`, because its price is exactly zero, is not refused for
    money, nor by a limit of it."""
    shortfall = _shortfall(funds, required)
    if not eligibility.member:
        return Decision("NOT_A_MEMBER", shortfall)
    if not eligibility.account_enabled:
        return Decision("ACCOUNT_DISABLED", shortfall)
    if not eligibility.provider_allowed:
        return Decision("PROVIDER_NOT_ALLOWED", shortfall)
    if eligibility.subscription_operative is False:
        return Decision("NO_ACTIVE_SUBSCRIPTION", shortfall)
    exceeded = next((use.limit for use in limits if use.exceeded_by(required)), None)
    if exceeded is not None and not free:
        return Decision("SUB_LIMIT_EXCEEDED", shortfall, exceeded)
    return Decision(None if free else _money(funds, required), shortfall)


def _money(funds: Funds, required: int) -> Reason | None:
    available = funds.balance - funds.held
    if funds.model == "UNLIMITED":
        return None
    if funds.model == "CREDIT_POSTPAY":
        limited = funds.credit_limit is not None and available - required < -funds.credit_limit
        return "CREDIT_LIMIT_EXCEEDED" if limited else None
    blocked = funds.block_on_zero_balance and (available <= 0 or available < required)
    return "INSUFFICIENT_BALANCE" if blocked else None


def _shortfall(funds: Funds, required: int) -> int:
    """The amount (micro-CHF) that is missing to cover the call."""
    if funds.model == "UNLIMITED" or (funds.model == "CREDIT_POSTPAY" and funds.credit_limit is None):
        return 0
    covered = funds.balance - funds.held
    if funds.model == "CREDIT_POSTPAY":
        covered += funds.credit_limit or 0
    return max(0, required - covered)
