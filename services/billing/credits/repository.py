"""The marks by which each credit is given once, and the reads that a credit is decided by, in its own transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.tables import (
    accounts,
    directory_members,
    payment_credits,
    payment_refunds,
    promotion_redemptions,
    promotions,
    subscription_budgets,
    transactions,
    unposted_events,
)

__all__ = [
    "Promotion",
    "Refund",
    "budget_cause",
    "count_members",
    "digest_of_parked_payment",
    "insert_promotion",
    "insert_redemption",
    "is_posted",
    "mark_budget",
    "mark_payment",
    "mark_refund",
    "posted_credit",
    "read_budget",
    "read_payment_mark",
    "read_promotion",
    "read_refund",
]


async def is_posted(connection: AsyncConnection, mandate_no: int, event_id: UUID) -> bool:
    """Whether the ledger has a row that was made here under this id."""
    return await _exists(connection, *_own(transactions, mandate_no, event_id))


async def posted_credit(connection: AsyncConnection, mandate_no: int, event_id: UUID) -> sa.RowMapping | None:
    """The row that was made here under this id: its account and number there, and what was asked for; the amount in
    micro-CHF, the user None for a credit of the pool."""
    row = transactions.c
    of_member = sa.and_(accounts.c.mandate_no == row.mandate_no, accounts.c.no == row.member_account_no)
    read = (
        sa.select(row.posted_account_no, row.seq, row.transaction_type, row.amount, row.description, accounts.c.user_id)
        .select_from(transactions.join(accounts, of_member))
        .where(*_own(transactions, mandate_no, event_id))
    )
    return (await connection.execute(read)).mappings().one_or_none()


async def digest_of_parked_payment(connection: AsyncConnection, mandate_no: int, event_id: UUID) -> bytes | None:
    """The digest of a payment that waits for a rate; None where none of that id does."""
    read = sa.select(unposted_events.c.digest).where(*_own(unposted_events, mandate_no, event_id))
    digest: bytes | None = await connection.scalar(read)
    return digest


async def read_payment_mark(connection: AsyncConnection, mandate_no: int, event_id: UUID) -> sa.RowMapping | None:
    """The mark of a payment that was credited, with its `digest`, which is null in old ones."""
    mark = payment_credits.c
    read = sa.select(mark.digest).where(mark.mandate_no == mandate_no, mark.event_id == event_id)
    return (await connection.execute(read)).mappings().one_or_none()


async def mark_payment(
    connection: AsyncConnection,
    mandate_no: int,
    event_id: UUID,
    *,
    reference: str,
    amount: int,
    digest: bytes,
    now: datetime,
) -> None:
    """Marks a payment as credited with so many micro-CHF."""
    mark = sa.insert(payment_credits).values(
        mandate_no=mandate_no, event_id=event_id, reference=reference, amount=amount, digest=digest, credited_at=now
    )
    await connection.execute(mark)


class Refund(NamedTuple):
    """The mark of a refund: how much was taken back, in micro-CHF."""

    amount: int
    digest: bytes


async def read_refund(connection: AsyncConnection, mandate_no: int, event_id: UUID) -> Refund | None:
    """The mark of a refund that was taken back."""
    mark = payment_refunds.c
    read = sa.select(mark.amount, mark.digest).where(mark.mandate_no == mandate_no, mark.event_id == event_id)
    row = (await connection.execute(read)).first()
    return None if row is None else Refund(*row)


async def mark_refund(
    connection: AsyncConnection,
    mandate_no: int,
    event_id: UUID,
    *,
    refund_id: str,
    reference: str,
    amount: int,
    digest: bytes,
    now: datetime,
) -> None:
    """Marks a refund of so many micro-CHF of a payment as taken back."""
    mark = sa.insert(payment_refunds).values(
        mandate_no=mandate_no,
        event_id=event_id,
        refund_id=refund_id,
        reference=reference,
        amount=amount,
        digest=digest,
        refunded_at=now,
    )
    await connection.execute(mark)


def budget_cause(subscription_id: UUID, period_start: datetime) -> str:
    """What a budget is for: given once per subscription and period."""
    return f"budget/{subscription_id}/{period_start.isoformat()}"


async def read_budget(
    connection: AsyncConnection, mandate_no: int, subscription_id: UUID, period_start: datetime
) -> int | None:
    """The budget of this period in micro-CHF, as it was credited; also one that came to nothing."""
    mark = subscription_budgets.c
    read = sa.select(mark.amount).where(
        mark.mandate_no == mandate_no, mark.subscription_id == subscription_id, mark.period_start == period_start
    )
    amount: int | None = await connection.scalar(read)
    return amount


async def mark_budget(
    connection: AsyncConnection,
    mandate_no: int,
    subscription_id: UUID,
    period_start: datetime,
    *,
    amount: int,
    grant_nos: Sequence[int],
    now: datetime,
) -> None:
    """Marks the budget of a period as credited with so many micro-CHF, as these grants."""
    mark = sa.insert(subscription_budgets).values(
        mandate_no=mandate_no,
        subscription_id=subscription_id,
        period_start=period_start,
        amount=amount,
        credited_at=now,
        grant_nos=list(grant_nos),
    )
    await connection.execute(mark)


async def count_members(connection: AsyncConnection, mandate_id: str) -> int:
    """How many enabled members the mandate has."""
    member = directory_members.c
    read = sa.select(sa.func.count()).where(member.mandate_id == mandate_id, member.enabled)
    return (await connection.execute(read)).scalar_one()


class Promotion(NamedTuple):
    """Credit of so many micro-CHF that expires; for one mandate, or for each that redeems its code."""

    id: UUID
    mandate_no: int | None
    amount: int
    expires_at: datetime
    reason: str
    code: str | None


async def insert_promotion(
    connection: AsyncConnection, promotion: Promotion, *, created_by: str, now: datetime
) -> bool:
    """Whether it was made; not where another one has its code."""
    row = insert(promotions).values(**promotion._asdict(), created_by_user_id=created_by, created_at=now)
    return (await connection.execute(row.on_conflict_do_nothing().returning(sa.true()))).first() is not None


async def read_promotion(connection: AsyncConnection, code: str) -> Promotion | None:
    """The promotion of a code."""
    columns = [promotions.c[name] for name in Promotion._fields]
    row = (await connection.execute(sa.select(*columns).where(promotions.c.code == code))).one_or_none()
    return None if row is None else Promotion(*row)


async def insert_redemption(
    connection: AsyncConnection, mandate_no: int, promotion: UUID, *, redeemed_by: str, now: datetime
) -> bool:
    """Whether the mandate redeems it now; not where it did before."""
    row = insert(promotion_redemptions).values(
        mandate_no=mandate_no, promotion_id=promotion, redeemed_by_user_id=redeemed_by, redeemed_at=now
    )
    return (await connection.execute(row.on_conflict_do_nothing().returning(sa.true()))).first() is not None


def _own(table: sa.Table, mandate_no: int, event_id: UUID) -> list[sa.ColumnElement[bool]]:
    """The row of an id that was made here, not chosen by a publisher of usage."""
    return [table.c.mandate_no == mandate_no, table.c.event_id == event_id, table.c.own]


async def _exists(connection: AsyncConnection, *conditions: sa.ColumnElement[bool]) -> bool:
    return (await connection.execute(sa.select(sa.exists().where(*conditions)))).scalar_one()
