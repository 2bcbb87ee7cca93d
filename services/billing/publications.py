"""Facts of billing as outbox rows."""

from collections.abc import Iterable
from datetime import datetime

from rappen_contracts.billing.v1 import BalanceChanged
from rappen_contracts.registry import BALANCE_CHANGED_V1
from rappen_contracts.types import Money, NonNegativeMoney
from services.billing.domain.ledger import LockedAccount, transaction_id
from services.billing.domain.money import from_micro
from services.chassis.outbox import OutboxRow, outbox_row

__all__ = ["balances_changed"]


def balances_changed(accounts: Iterable[LockedAccount], mandate_ids: dict[int, str], now: datetime) -> list[OutboxRow]:
    """One row for each pool and member account that moved; counter-accounts are nobody's balance.

    The key is the account's, not only the mandate's, because the topic is compacted by account.
    """
    rows = []
    for account in accounts:
        if account.rows and account.type in ("MANDATE", "USER"):
            mandate_id = mandate_ids[account.mandate_no]
            data = BalanceChanged(
                mandate_id=mandate_id,
                account_id=str(account.no),
                account_type=account.type,
                user_id=account.user_id,
                balance=_money(account.balance),
                held=NonNegativeMoney(amount=from_micro(account.held), currency="CHF"),
                version=account.seq,
            )
            rows.append(
                outbox_row(
                    BALANCE_CHANGED_V1,
                    data,
                    # The row after which the balance was this.
                    event_id=transaction_id(account.no, account.seq),
                    occurred_at=now,
                    key=f"{mandate_id}/{account.no}",
                )
            )
    return rows


def _money(micros: int) -> Money:
    return Money(amount=from_micro(micros), currency="CHF")
