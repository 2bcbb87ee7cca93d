"""Opening accounts of members, and the opening credit that each gets exactly once in a member's life."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.domain import LEDGER_NAMESPACE, Posting
from services.billing.ledger.keys import AccountKey, ensure_accounts
from services.billing.ledger.write_postings import write_postings
from services.billing.mandates.repository import LockedMandate
from services.chassis.database import driver_connection

__all__ = ["give_opening_credit", "open_member_accounts"]


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
    """Credits every enabled member whose account stands in a PREPAY_USER mandate and never had its opening credit.

    Once, because the ledger row's key is derived from the member, and the mark is set with the row.
    """
    driver = driver_connection(connection)
    due = await driver.fetch(
        "SELECT a.mandate_no, a.no, a.user_id, m.default_user_credit FROM accounts a"
        " JOIN mandates m ON m.no = a.mandate_no"
        " JOIN directory_members d ON d.mandate_id = m.id AND d.user_id = a.user_id AND d.enabled"
        " WHERE a.mandate_no = ANY($1) AND a.type = 'USER' AND m.billing_model = 'PREPAY_USER'"
        " AND a.opening_credit_at IS NULL ORDER BY a.no",
        sorted(mandates),
    )
    if not due:
        return
    await driver.execute(
        "UPDATE accounts SET opening_credit_at = $4, opening_credit = given.amount"
        " FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS given (mandate_no, account_no, amount)"
        " WHERE accounts.mandate_no = given.mandate_no AND accounts.no = given.account_no",
        [row["mandate_no"] for row in due],
        [row["no"] for row in due],
        [row["default_user_credit"] for row in due],
        now,
    )
    await write_postings(
        connection,
        [
            Posting(
                mandate_no=row["mandate_no"],
                event_id=uuid5(LEDGER_NAMESPACE, f"opening/{row['mandate_no']}/{row['no']}"),
                member_account_no=row["no"],
                posted_account_no=row["no"],
                transaction_type="CREDIT",
                amount=row["default_user_credit"],
                contra_account="PROMOTIONAL",
                reference_type="SYSTEM",
                description="Initial credit for new user",
                occurred_at=now,
            )
            for row in due
            if row["default_user_credit"] > 0
        ],
        calendars={no: mandates[no].calendar for no in {row["mandate_no"] for row in due}},
        now=now,
    )
