"""Facts of billing as outbox rows."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID, uuid5

from rappen_contracts.billing.v1 import BalanceChanged
from rappen_contracts.registry import BALANCE_CHANGED_V1
from rappen_contracts.types import Money, NonNegativeMoney
from services.billing.domain.ledger import LEDGER_NAMESPACE, LockedAccount
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
                    event_id=_event_id(account.no, account.seq),
                    occurred_at=now,
                    key=f"{mandate_id}/{account.no}",
                )
            )
    return rows


def _money(micros: int) -> Money:
    return Money(amount=from_micro(micros), currency="CHF")


def _event_id(account_no: int, seq: int) -> UUID:
    return uuid5(LEDGER_NAMESPACE, f"balance/{account_no}/{seq}")
