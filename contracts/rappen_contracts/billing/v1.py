"""balance.changed v1: the newest balance of an account, on a topic compacted by account."""

from typing import Literal

from rappen_contracts.types import Contract, Count, Identifier, Money, Name, NonNegativeBalance

__all__ = ["BalanceChanged"]


class BalanceChanged(Contract):
    """State, not a movement: the balance after change number `version`; what is older than the newest may be missing.

    `balance` is final CHF, markup included; what may be spent is balance less `held` (plus `credit_limit`).
    """

    mandate_id: Identifier
    account_id: Name
    account_type: Literal["MANDATE", "USER"]
    user_id: Identifier | None = None
    balance: Money
    held: NonNegativeBalance
    version: Count
