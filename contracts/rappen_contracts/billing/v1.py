"""balance.changed v1: the newest balance of an account, on a topic compacted by account."""

from typing import Literal

from rappen_contracts.types import Contract, Count, Identifier, Money, Name, NonNegativeBalance

__all__ = ["BalanceChanged"]


class BalanceChanged(Contract):
    """State, not a movement: an account after change number `version` of its balance or of what is held on it; what is
    older than the newest may be missing.

    `balance` is final CHF, markup included; what may be spent is balance less `held` (plus `credit_limit`). `held` is
    given back at the latest when the holds on it end, which is published too. `rows` is the number of transactions that
    led to the balance.
    """

    mandate_id: Identifier
    account_id: Name
    account_type: Literal["MANDATE", "USER"]
    user_id: Identifier | None = None
    balance: Money
    held: NonNegativeBalance
    version: Count
    rows: Count | None = None
