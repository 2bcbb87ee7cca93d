"""Posting everything that is not usage: credits, deductions, adjustments. The caller owns the transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from uuid import UUID

import asyncpg

from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import (
    BALANCE_MAX,
    CounterAccount,
    ReferenceType,
    Transaction,
    TransactionType,
    movement,
)
from services.billing.ledger.errors import BalanceOutOfRange
from services.billing.ledger.keys import AccountKey, ensure_accounts
from services.billing.ledger.repository import insert_transactions, read_accounts, update_accounts

__all__ = ["Movement", "post_movements"]


@dataclass(frozen=True, slots=True)
class Movement:
    """Value between an account and a counter-account, in micro-CHF; `about_no` is the member it is for, if another."""

    mandate_no: int
    event_id: UUID
    account_no: int
    transaction_type: TransactionType
    amount: int
    counter: CounterAccount
    reference_type: ReferenceType
    description: str
    occurred_at: datetime
    about_no: int | None = None
    reference_id: str | None = None
    created_by_user_id: str | None = None

    @property
    def by(self) -> int:
        """How the account's balance changes."""
        return movement(self.transaction_type, self.amount)


async def post_movements(
    connection: asyncpg.Connection,
    movements: Sequence[Movement],
    *,
    calendars: Mapping[int, Calendar],
    now: datetime,
) -> list[Transaction]:
    """Writes one row each, moves both accounts, marks the new balances to be told.

    The caller has locked the mandates, whose calendars it gives, and chosen the accounts under that lock. Raises
    `UniqueViolationError` for a movement that has its row already, so a caller that may repeat looks first;
    `BalanceOutOfRange` for a balance that the ledger cannot hold.
    """
    if not movements:
        return []
    counters = await ensure_accounts(connection, [AccountKey(entry.mandate_no, entry.counter) for entry in movements])
    accounts = await read_accounts(
        connection,
        [
            *((entry.mandate_no, entry.account_no) for entry in movements),
            *((key.mandate_no, no) for key, no in counters.items()),
        ],
    )
    rows = []
    for entry in movements:
        account = accounts[entry.account_no]
        contra = accounts[counters[AccountKey(entry.mandate_no, entry.counter)]]
        account.move(entry.by)
        contra.move(-entry.by)
        if max(abs(account.balance), abs(contra.balance)) > BALANCE_MAX:
            raise BalanceOutOfRange
        rows.append(
            Transaction(
                mandate_no=entry.mandate_no,
                event_id=entry.event_id,
                account_no=entry.about_no or entry.account_no,
                moved_account_no=entry.account_no,
                seq=account.seq,
                transaction_type=entry.transaction_type,
                amount=entry.amount,
                balance_after=account.balance,
                counter=entry.counter,
                reference_type=entry.reference_type,
                occurred_at=entry.occurred_at,
                recorded_at=now,
                period_day=calendars[entry.mandate_no].day(entry.occurred_at),
                digest=_digest(entry),
                reference_id=entry.reference_id,
                description=entry.description,
                created_by_user_id=entry.created_by_user_id,
            )
        )
    await insert_transactions(connection, rows)
    await update_accounts(connection, list(accounts.values()))
    await _raise_levels(connection, [entry for entry in movements if entry.transaction_type == "CREDIT"])
    return rows


async def _raise_levels(connection: asyncpg.Connection, given: Sequence[Movement]) -> None:
    """Remembers the balance right after a credit: the level of which the warning threshold is a percentage."""
    if given:
        await connection.execute(
            "UPDATE accounts a SET level = a.balance"
            " FROM unnest($1::int[], $2::bigint[]) AS given (mandate_no, account_no)"
            " WHERE a.mandate_no = given.mandate_no AND a.no = given.account_no",
            [entry.mandate_no for entry in given],
            [entry.account_no for entry in given],
        )


def _digest(entry: Movement) -> bytes:
    """What tells a repeat of the movement from another one under the same id."""
    text = f"{entry.account_no}|{entry.transaction_type}|{entry.amount}|{entry.counter}|{entry.reference_id}"
    return blake2b(text.encode(), digest_size=16).digest()
