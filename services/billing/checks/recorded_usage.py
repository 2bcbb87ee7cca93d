"""Usage that was recorded already, as a capture is answered with it."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.checks.errors import PriceUnknown, UsageConflict
from services.billing.ledger.domain import transaction_id
from services.billing.money import money_json
from services.billing.tables import accounts, transactions, unposted_events
from services.chassis.problems import Problem

__all__ = ["RecordedUsage", "read_recorded"]


class RecordedUsage(NamedTuple):
    """The charge of an event, in micro-CHF. Without a row of the ledger it has a `reason`: it was FREE, or it waits."""

    digest: bytes
    reason: str | None
    detail: str | None
    amount: int
    balance_after: int | None
    account_no: int | None
    seq: int | None

    @property
    def waiting(self) -> Problem | None:
        """Why the usage was not charged yet; None where it was, or is free."""
        if self.reason in (None, "FREE"):
            return None
        return PriceUnknown(self.reason, self.detail or "") if self.reason in PriceUnknown.REASONS else UsageConflict()

    def json(self, hold: UUID, event_id: UUID) -> dict[str, Any]:
        """The answer to a capture; the same whenever it is asked for, because a charge never changes."""
        charged = self.account_no is not None and self.seq is not None
        return {
            "holdId": str(hold),
            "eventId": str(event_id),
            "transactionId": str(transaction_id(self.account_no or 0, self.seq or 0)) if charged else None,
            "amount": money_json(self.amount),
            "balanceAfter": None if self.balance_after is None else money_json(self.balance_after),
        }


async def read_recorded(
    connection: AsyncConnection, identities: Sequence[tuple[int, UUID]]
) -> dict[tuple[int, UUID], RecordedUsage]:
    """Those of the usage events, given as (mandate, event), that were recorded."""
    charged, unposted, account = transactions.c, unposted_events.c, accounts.c
    mandates = sa.literal([mandate_no for mandate_no, _ in identities], ARRAY(sa.Integer))
    events = sa.literal([event_id for _, event_id in identities], ARRAY(sa.Uuid))
    columns = sa.column("mandate_no", sa.Integer), sa.column("event_id", sa.Uuid)
    given = sa.func.unnest(mandates, events).table_valued(*columns).render_derived(name="given")

    def of_event(table: sa.ColumnCollection[str, sa.Column[Any]]) -> sa.ColumnElement[bool]:
        same = (table["mandate_no"] == given.c.mandate_no, table["event_id"] == given.c.event_id)
        return sa.and_(*same, sa.not_(table["own"]))

    of_account = sa.and_(account.mandate_no == charged.mandate_no, account.no == charged.posted_account_no)
    found = given.outerjoin(transactions, of_event(charged)).outerjoin(accounts, of_account)
    read = (
        sa.select(
            given.c.mandate_no,
            given.c.event_id,
            sa.func.coalesce(charged.digest, unposted.digest),
            unposted.reason,
            unposted.detail,
            sa.func.coalesce(charged.amount, 0),
            # Usage of an UNLIMITED mandate moves nobody's balance.
            sa.case((account.type != "INTERNAL", charged.balance_after)),
            charged.posted_account_no,
            charged.seq,
        )
        .select_from(found.outerjoin(unposted_events, of_event(unposted)))
        .where(sa.or_(charged.event_id.is_not(None), unposted.event_id.is_not(None)))
    )
    rows = await connection.execute(read)
    return {(row[0], row[1]): RecordedUsage(*row[2:]) for row in rows}
