"""Opening accounts of members, and the opening credit that each gets exactly once in a member's life."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.domain import LEDGER_NAMESPACE, Posting
from services.billing.ledger.keys import AccountKey, ensure_accounts
from services.billing.ledger.write_postings import write_postings
from services.billing.mandates.repository import LockedMandate, mark_opening_credits

__all__ = ["give_opening_credit", "open_member_accounts", "opening_credits"]


async def open_member_accounts(
    connection: AsyncConnection,
    members: Sequence[tuple[int, str]],
    *,
    mandates: Mapping[int, LockedMandate],
    now: datetime,
) -> None:
    """Makes the accounts of members, given as (mandate, user), and gives the opening credit that is due."""
    if members:
        await ensure_accounts(connection, [AccountKey(no, "USER", user_id) for no, user_id in members])
        await give_opening_credit(connection, mandates, now=now)


async def give_opening_credit(
    connection: AsyncConnection, mandates: Mapping[int, LockedMandate], *, now: datetime
) -> None:
    """Credits every enabled member whose account stands in a PREPAY_USER mandate and never had its opening credit."""
    due = await opening_credits(connection, mandates, now=now)
    if due:
        calendars = {posting.mandate_no: mandates[posting.mandate_no].calendar for posting in due}
        await write_postings(connection, due, calendars=calendars, now=now)


async def opening_credits(connection: AsyncConnection, numbers: Collection[int], *, now: datetime) -> list[Posting]:
    """Marks the accounts of these mandates whose opening credit is due as having had it, and gives the postings of it,
    which the caller writes in the same transaction.

    Once, because the ledger row's key is derived from the member, and the mark is set with the row.
    """
    return [
        Posting.own(
            mandate_no=credit.mandate_no,
            event_id=uuid5(LEDGER_NAMESPACE, f"opening/{credit.mandate_no}/{credit.account_no}"),
            member_account_no=credit.account_no,
            posted_account_no=credit.account_no,
            transaction_type="CREDIT",
            amount=credit.amount,
            contra_account="PROMOTIONAL",
            reference_type="SYSTEM",
            description="Initial credit for new user",
            occurred_at=now,
        )
        for credit in await mark_opening_credits(connection, numbers, now=now)
        if credit.amount > 0
    ]
