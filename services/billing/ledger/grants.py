"""Grants: parts of a balance that were given rather than paid for, most of them until a time.

The balance of an account is its grants' remainders and, beyond them, paid credit. What is spent takes the grant that
expires soonest first, then those that never expire, then paid credit; a debt is covered from grants as soon as there is
one. So there is paid credit or there are no grants: `accounts.granted`, the sum of the remainders, is never larger than
a positive balance, and nothing where the balance is not positive.

Every change of a grant is in a row of the ledger (`transactions.grants`), in the transaction that writes the row; a
remainder is the sum of its changes. All of it happens under the lock of the mandate.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.domain import GrantKind, LockedAccount, LockedGrant, ReferenceType, StoredContraAccount
from services.billing.tables import accounts, grants
from services.chassis.database import driver_connection

__all__ = [
    "BALANCE_NOW",
    "NewGrant",
    "accounts_with_due_grants",
    "balance_at",
    "insert_grants",
    "read_grants",
    "update_grants",
]

# The balance of an account without the grants whose time is over: SQL with the names of the account and of the time.
BALANCE_NOW = (
    "CASE WHEN {0}.granted > 0 THEN {0}.balance - coalesce((SELECT sum(due.remaining) FROM grants due"
    " WHERE due.mandate_no = {0}.mandate_no AND due.account_no = {0}.no AND due.open"
    " AND due.expires_at <= {1}), 0)::bigint ELSE {0}.balance END"
)


class NewGrant(NamedTuple):
    """A grant to be made; the amount is micro-CHF, `expires_at` None for one that never expires. `contra_account` and
    the reference are those of the rows that give it, and of the row by which it expires."""

    mandate_no: int
    account_no: int
    kind: GrantKind
    amount: int
    expires_at: datetime | None
    contra_account: StoredContraAccount
    reference_type: ReferenceType
    reference_id: str | None
    description: str


def balance_at(now: datetime) -> sa.ColumnElement[int]:
    """The balance of `accounts` without what has expired by then: `BALANCE_NOW` for statements of SQLAlchemy."""
    due = sa.and_(
        grants.c.mandate_no == accounts.c.mandate_no,
        grants.c.account_no == accounts.c.no,
        grants.c.open,
        grants.c.expires_at <= now,
    )
    expired = sa.select(sa.func.coalesce(sa.func.sum(grants.c.remaining), 0)).where(due).scalar_subquery()
    left = accounts.c.balance - sa.cast(expired, sa.BigInteger)
    return sa.case((accounts.c.granted > 0, left), else_=accounts.c.balance)


async def insert_grants(connection: AsyncConnection, given: Sequence[NewGrant], *, now: datetime) -> list[int]:
    """Makes grants of which nothing is there yet, and gives their numbers; the rows that name them fill them. One
    statement, however many they are."""
    if not given:
        return []
    rows = await driver_connection(connection).fetch(
        "INSERT INTO grants (mandate_no, account_no, kind, amount, remaining, open, granted_at, expires_at,"
        " contra_account, reference_type, reference_id, description)"
        " SELECT mandate_no, account_no, kind, amount, 0, false, $10::timestamptz, expires_at,"
        " contra_account, reference_type, reference_id, description"
        " FROM unnest($1::int[], $2::bigint[], $3::text[], $4::bigint[], $5::timestamptz[], $6::text[], $7::text[],"
        " $8::text[], $9::text[]) WITH ORDINALITY AS given (mandate_no, account_no, kind, amount, expires_at,"
        " contra_account, reference_type, reference_id, description, place) ORDER BY place RETURNING no",
        *(list(column) for column in zip(*given, strict=True)),
        now,
    )
    # Numbers are given in the order in which the rows are inserted.
    return sorted(row["no"] for row in rows)


_SHOWN = (
    "SELECT g.mandate_no, g.no, g.account_no, g.kind, g.amount, g.remaining, g.expires_at, g.contra_account,"
    " g.reference_type, g.reference_id, g.description"
)
_OPEN_OF = (
    " FROM unnest($1::int[], $2::bigint[]) AS given (mandate_no, account_no)"
    " JOIN grants g ON g.mandate_no = given.mandate_no AND g.account_no = given.account_no AND g.open"
)
_IN_ORDER = " ORDER BY g.expires_at NULLS LAST, g.no"
_OPEN = _SHOWN + _OPEN_OF + _IN_ORDER
_OPEN_OR_NAMED = (
    f"{_SHOWN} FROM (SELECT g.mandate_no, g.no{_OPEN_OF} UNION SELECT * FROM unnest($3::int[], $4::bigint[])) AS wanted"
    f" JOIN grants g ON g.mandate_no = wanted.mandate_no AND g.no = wanted.no{_IN_ORDER}"
)


async def read_grants(
    connection: AsyncConnection, of: Iterable[LockedAccount], named: Collection[tuple[int, int]]
) -> list[LockedGrant]:
    """The grants of accounts of which something remains, and those that are named, as (mandate, number); in the order
    in which they are spent."""
    keys = [(account.mandate_no, account.no) for account in of if account.granted]
    if not keys and not named:
        return []
    arguments = [[mandate_no for mandate_no, _ in keys], [account_no for _, account_no in keys]]
    if named:
        arguments += [[mandate_no for mandate_no, _ in named], [no for _, no in named]]
    rows = await driver_connection(connection).fetch(_OPEN_OR_NAMED if named else _OPEN, *arguments)
    return [LockedGrant(*row) for row in rows]


async def update_grants(connection: AsyncConnection, changed: Sequence[LockedGrant]) -> None:
    """Writes what remains of grants."""
    if changed:
        await driver_connection(connection).execute(
            "UPDATE grants g SET remaining = given.remaining, open = given.remaining > 0"
            " FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS given (mandate_no, no, remaining)"
            " WHERE g.mandate_no = given.mandate_no AND g.no = given.no",
            [grant.mandate_no for grant in changed],
            [grant.no for grant in changed],
            [grant.remaining for grant in changed],
        )


async def accounts_with_due_grants(connection: AsyncConnection, *, now: datetime, limit: int) -> list[tuple[int, int]]:
    """Accounts, as (mandate, account), with at most `limit` grants whose time is over, those first that are over for
    longest."""
    due = sa.select(grants.c.mandate_no, grants.c.account_no).where(grants.c.open, grants.c.expires_at <= now)
    oldest = due.order_by(grants.c.expires_at).limit(limit).subquery()
    rows = await connection.execute(sa.select(oldest.c.mandate_no, oldest.c.account_no).distinct())
    return [(row.mandate_no, row.account_no) for row in rows]
