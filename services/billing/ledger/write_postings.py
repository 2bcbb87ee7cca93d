"""Posting: the one way into the ledger for usage, credits, deductions, transfers, reversals and corrections of
charges."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.types import since_epoch
from services.billing.ledger.calendars import MINUTE, Calendar, day_of_minute
from services.billing.ledger.domain import BALANCE_MAX, LockedAccount, LockedGrant, Posting, movement
from services.billing.ledger.errors import BalanceOutOfRange
from services.billing.ledger.grants import read_grants, update_grants
from services.billing.ledger.keys import AccountKey, ensure_accounts
from services.billing.ledger.low_balances import note_low_balances
from services.billing.ledger.repository import (
    RollupKey,
    add_to_rollups,
    insert_rows,
    keep_balance_after_credit,
    read_accounts,
    update_accounts,
)
from services.billing.ledger.rows import encoded_row
from services.billing.ledger.spending import GrantChange, apply_changes, expiry, grant_changes, grants_text
from services.billing.money import Exact, post, remainder_text

__all__ = ["PreparedPostings", "move_accounts", "prepare_postings", "write_postings", "write_prepared"]


class PreparedPostings(NamedTuple):
    """Postings ready to be written, with the accounts, balances and rollups they lead to, and those that are left
    out."""

    accounts: dict[int, LockedAccount]
    rows: list[bytes]
    # Cost (micro-CHF) and count to add.
    rollups: dict[RollupKey, list[int]]
    # Accounts, as (mandate, account), that got a credit.
    credited: list[tuple[int, int]]
    # Postings that would take a balance out of the ledger's range.
    out_of_range: list[Posting]
    # Postings that cannot be encoded as a row, each with the error.
    faulty: list[tuple[Posting, Exception]]
    # The time at which they are recorded.
    now: datetime


async def write_postings(
    connection: AsyncConnection,
    postings: Sequence[Posting],
    *,
    calendars: Mapping[int, Calendar],
    now: datetime,
    touched: Collection[tuple[int, int]] = (),
    more_follows: bool = False,
) -> dict[int, LockedAccount]:
    """Writes all of the postings or none, and gives the accounts by number as they are then.

    One row each; both balances move and are marked to be published, or, against REVENUE, one balance and the rollups.
    Grants whose time is over expire first, each with a row of its own, on the accounts that are posted to and on those
    that are `touched`, given as (mandate, account). The caller has locked the mandates, whose calendars it gives, and
    chosen the accounts under that lock. Raises `UniqueViolationError` for a posting that has its row already, so a
    caller that may repeat looks first; `BalanceOutOfRange` for a balance that the ledger cannot hold. `more_follows` is
    as in `write_prepared`.
    """
    prepared = await prepare_postings(connection, postings, calendars=calendars, now=now, touched=touched)
    for _, error in prepared.faulty:
        raise error
    if prepared.out_of_range:
        raise BalanceOutOfRange
    await write_prepared(connection, prepared, more_follows=more_follows)
    return prepared.accounts


async def prepare_postings(
    connection: AsyncConnection,
    postings: Sequence[Posting],
    *,
    calendars: Mapping[int, Calendar],
    now: datetime,
    touched: Collection[tuple[int, int]] = (),
) -> PreparedPostings:
    """Reads the accounts and moves them in memory, one posting after the other; each that cannot be is left out, and
    the next of its account does not suffer for it."""
    keys = {
        AccountKey(posting.mandate_no, posting.contra_account)
        for posting in postings
        if posting.contra_account != "REVENUE"
    }
    numbers = await ensure_accounts(connection, list(keys)) if keys else {}
    wanted = {(posting.mandate_no, posting.posted_account_no) for posting in postings} | set(touched)
    wanted |= {(key.mandate_no, number) for key, number in numbers.items()}
    accounts = await read_accounts(connection, wanted) if wanted else {}
    named = {(posting.mandate_no, no) for posting in postings if posting.grants for no, _ in posting.grants}
    named |= {(posting.mandate_no, no) for posting in postings if posting.spent for no in posting.spent.grants}
    for grant in await read_grants(connection, accounts.values(), named):
        accounts[grant.account_no].grants.append(grant)
        key = AccountKey(grant.mandate_no, grant.contra_account)
        if grant.expires_at is not None and grant.expires_at <= now and key not in numbers:
            numbers |= await ensure_accounts(connection, [key])
            accounts |= await read_accounts(connection, [(grant.mandate_no, numbers[key])])
    return move_accounts(postings, accounts, {key: accounts[number] for key, number in numbers.items()}, calendars, now)


def move_accounts(
    postings: Sequence[Posting],
    accounts: dict[int, LockedAccount],
    contras: Mapping[AccountKey, LockedAccount],
    calendars: Mapping[int, Calendar],
    now: datetime,
) -> PreparedPostings:
    """Moves accounts in memory, posting by posting; `contras` are the accounts of contra accounts that are no
    revenue."""
    moving = _Moving(PreparedPostings(accounts, [], {}, [], [], [], now), contras, calendars, since_epoch(now))
    granted = [account for account in accounts.values() if account.grants]
    moving.expire(granted)
    for posting in postings:
        moving.move(posting)
    # What a reversal gave back to a grant whose time is over.
    moving.expire(granted)
    return moving.prepared


@dataclass(slots=True)
class _Moving:
    """The accounts of a transaction while they are moved."""

    prepared: PreparedPostings
    contras: Mapping[AccountKey, LockedAccount]
    calendars: Mapping[int, Calendar]
    recorded_at: int
    # By mandate and minute; a batch has few.
    _days: dict[tuple[int, int], date] = field(default_factory=dict)

    def _day(self, mandate_no: int, minute: int) -> date:
        day = self._days.get((mandate_no, minute))
        if day is None:
            day = self._days[mandate_no, minute] = day_of_minute(self.calendars[mandate_no], minute)
        return day

    def expire(self, accounts: Sequence[LockedAccount]) -> None:
        """Takes back what remains of grants whose time is over."""
        now = self.prepared.now
        for account in accounts:
            for grant in account.grants:
                if grant.is_due(now):
                    self.move(expiry(account, grant, now))

    def move(self, posting: Posting) -> None:
        """Moves the accounts of a posting; one that cannot be posted changes nothing and is kept apart."""
        prepared = self.prepared
        account = prepared.accounts[posting.posted_account_no]
        contra = None
        if posting.contra_account != "REVENUE":
            contra = self.contras[AccountKey(posting.mandate_no, posting.contra_account)]
        try:
            day = posting.period_day or self._day(posting.mandate_no, posting.occurred_at // MINUTE)
            moved = self._row(posting, account, contra, day)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the fault of this posting and kept with it.
            prepared.faulty.append((posting, error))
            return
        if moved is None:
            prepared.out_of_range.append(posting)
            return
        row, by, account.rounding_remainder, account.remainder_text, changes = moved
        prepared.rows.append(row)
        if changes:
            apply_changes(account, changes)
        account.move(by)
        if posting.workflow_id is not None:
            account.workflow_ids[posting.workflow_id] = None
        if contra is not None:
            contra.move(-by)
        elif posting.dimension_no is not None:
            key = posting.mandate_no, posting.member_account_no, day, posting.dimension_no
            added = prepared.rollups.get(key)
            if added is None:
                added = prepared.rollups[key] = [0, 0]
            added[0] -= by
            # A charge, what takes one back, or a correction of its price.
            added[1] += 1 if posting.transaction_type == "DEBIT" else -1 if posting.price is None else 0
        if posting.transaction_type == "CREDIT":
            account.credited = True
            prepared.credited.append((posting.mandate_no, account.no))

    def _row(
        self, posting: Posting, account: LockedAccount, contra: LockedAccount | None, day: date
    ) -> tuple[bytes, int, Exact, str | None, list[GrantChange]] | None:
        """The row of a posting, how it moves its account (micro-CHF), the remainder that is left, also as text where
        that is known, and how it changes grants; None where a balance would leave the ledger's range."""
        amount, usage, remainder = posting.amount, posting.usage, account.rounding_remainder
        text = before = account.remainder_text
        if contra is None and posting.dimension_no is None:
            raise ValueError("a posting against revenue has a dimension")
        if posting.price is not None:
            amount, remainder = post(posting.price, remainder)
            text = None
            # A price is what is paid, the amount of an adjustment how its account moves.
            amount = -amount if posting.transaction_type == "ADJUSTMENT" else amount
        if amount is None:
            raise ValueError("a posting has an amount or a price")
        by = movement(posting.transaction_type, amount)
        balance = account.balance + by
        if abs(balance) > BALANCE_MAX or (contra is not None and abs(contra.balance - by) > BALANCE_MAX):
            return None
        changes = grant_changes(account, posting, by, self.prepared.now) if account.grants else []
        derivation = None
        if usage is not None:
            before = before or remainder_text(account.rounding_remainder)
            text = text or remainder_text(remainder)
            derivation = usage.explain(before, text)
        row = encoded_row(
            posting,
            amount=amount,
            seq=account.seq + 1,
            balance_after=balance,
            recorded_at=self.recorded_at,
            day=day,
            derivation=derivation,
            grants=grants_text(changes),
        )
        return row, by, remainder, text, changes


async def write_prepared(
    connection: AsyncConnection, prepared: PreparedPostings, *, more_follows: bool = False
) -> None:
    """Writes what was prepared in this transaction: rows in the order of their key, so that two workers with the same
    events wait for each other, not for ever; then balances, grants and rollups, and which balances are low.

    `more_follows` says that the caller may move the same accounts again before it commits, and then looks itself which
    are low: what it gives back in the same transaction warns nobody."""
    if prepared.rows:
        await insert_rows(connection, sorted(prepared.rows))
        await update_accounts(connection, list(prepared.accounts.values()))
        await update_grants(connection, _changed(prepared.accounts.values()))
        await keep_balance_after_credit(connection, prepared.credited)
        await add_to_rollups(connection, prepared.rollups)
        if not more_follows:
            await note_low_balances(connection, prepared.accounts.values(), now=prepared.now)


def _changed(accounts: Iterable[LockedAccount]) -> list[LockedGrant]:
    return [grant for account in accounts for grant in account.grants if grant.changed]
