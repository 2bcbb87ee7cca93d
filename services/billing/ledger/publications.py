"""Billing's events for Kafka."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from rappen_contracts.billing.v1 import BalanceChanged
from rappen_contracts.registry import BALANCE_CHANGED_V1
from rappen_contracts.types import Money, NonNegativeBalance
from services.billing.ledger.domain import transaction_id
from services.billing.ledger.unpublished import mark_published, read_unpublished
from services.billing.money import from_micro
from services.chassis.clock import Clock
from services.chassis.outbox import OutboxRow, outbox_row

__all__ = ["UnpublishedBalances"]


class UnpublishedBalances:
    """balance.changed: the newest balance and held amount of every account where one has changed, for the relay."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def read(self, connection: asyncpg.Connection, limit: int) -> Sequence[tuple[OutboxRow, asyncpg.Record]]:
        """Unpublished balances, each with what `mark_published` needs."""
        now = self._clock()
        return [(_balance_changed(row, now), row) for row in await read_unpublished(connection, limit)]

    async def mark_published(self, connection: asyncpg.Connection, published: Sequence[asyncpg.Record]) -> None:
        """Deletes their marks, except of those that have moved since."""
        await mark_published(connection, published)


def _balance_changed(row: asyncpg.Record, now: datetime) -> OutboxRow:
    """The key is the account's, not only the mandate's, because the topic is compacted by account."""
    mandate_id, account_no = row["mandate_id"], row["no"]
    data = BalanceChanged(
        mandate_id=mandate_id,
        account_id=str(account_no),
        account_type=row["type"],
        user_id=row["user_id"],
        balance=Money(amount=from_micro(row["balance"]), currency="CHF"),
        held=NonNegativeBalance(amount=from_micro(row["held"]), currency="CHF"),
        version=row["version"],
        rows=row["seq"],
    )
    return outbox_row(
        BALANCE_CHANGED_V1,
        data,
        # Once for each version of the account, so that a repeat has the same.
        event_id=transaction_id(account_no, row["version"]),
        occurred_at=now,
        key=f"{mandate_id}/{account_no}",
    )
