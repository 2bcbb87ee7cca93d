"""Holds: amounts reserved on an account before they are spent, and given back when they are settled.

A hold is OPEN until one thing settles it, once: usage (CAPTURED), its owner (VOIDED), or time (EXPIRED).
`accounts.held` is the sum of an account's open holds, `limits.held` of those that count towards a limit; both change in
the statement that changes the rows, and the former is then published like a balance. Every write here is made under the
lock of the mandate, which the caller has. A hold whose time is over counts for nobody, whether or not its row says so
yet.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.limit_sums import LIMITED, named_in
from services.chassis.database import driver_connection

__all__ = [
    "HELD_NOW",
    "Hold",
    "NewHold",
    "expire_holds",
    "insert_holds",
    "mandates_with_due_holds",
    "move_holds",
    "read_holds",
    "settle_holds",
    "void_hold",
]

HoldState = Literal["OPEN", "CAPTURED", "VOIDED", "EXPIRED"]

# The held amount of an account, less what is due at a time: SQL with the names of the account and of the time. Usually
# nothing is held, and then nothing is looked up.
HELD_NOW = (
    "CASE WHEN {0}.held > 0 THEN {0}.held - coalesce((SELECT sum(due.amount) FROM holds due"
    " WHERE due.mandate_no = {0}.mandate_no AND due.account_no = {0}.no AND due.state = 'OPEN'"
    " AND due.expires_at <= {1}), 0)::bigint ELSE {0}.held END"
)

# What follows from `changed`, rows of (mandate_no, account_no, by) and of what the hold is for: held amounts, each with
# its mark to be published, and those of limits. As in `update_accounts`, an account is updated before it is marked.
_FOLLOWED = (
    " summed AS (SELECT mandate_no, account_no, sum(by)::bigint AS by FROM changed GROUP BY 1, 2),"
    " moved AS (UPDATE accounts a SET held = a.held + summed.by, held_changes = a.held_changes + 1 FROM summed"
    " WHERE a.mandate_no = summed.mandate_no AND a.no = summed.account_no AND summed.by <> 0"
    " RETURNING a.mandate_no, a.no),"
    " marked AS (INSERT INTO unpublished_balances (mandate_no, account_no) SELECT mandate_no, no FROM moved"
    " ON CONFLICT DO NOTHING),"
    f"{LIMITED.format('ARRAY(SELECT mandate_no FROM changed)')},"
    " towards_limits AS (SELECT changed.mandate_no, named.kind, named.key, sum(changed.by) AS by"
    f" FROM limited JOIN changed ON changed.mandate_no = limited.no{named_in('changed', 'changed')}"
    " WHERE named.key IS NOT NULL GROUP BY 1, 2, 3),"
    " held_towards_limits AS (UPDATE limits l SET held = l.held + t.by FROM towards_limits t"
    " WHERE l.mandate_no = t.mandate_no AND l.kind = t.kind AND l.key = t.key AND t.by <> 0)"
)
# The given holds by their key, and by nothing else: an index of the open ones would lead through all of them.
_FOUND = (
    "WITH found AS MATERIALIZED (SELECT h.mandate_no, h.id, h.state, h.expires_at, given.settled_by"
    " FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS given (mandate_no, id, settled_by)"
    " JOIN holds h ON h.mandate_no = given.mandate_no AND h.id = given.id)"
)
_FOR = "{0}member_account_no, {0}provider, {0}model, {0}feature_instance_id"
_RELEASED = f" RETURNING h.mandate_no, h.account_no, -h.amount AS by, {_FOR.format('h.')}"


class NewHold(NamedTuple):
    """A hold to be made; the amount is micro-CHF. It names what it is for as far as that is known."""

    mandate_no: int
    id: UUID
    account_no: int
    member_account_no: int
    amount: int
    provider: str | None
    model: str | None
    feature_instance_id: str | None
    created_at: datetime
    created_by: str
    expires_at: datetime


class Hold(NamedTuple):
    """A hold with the ids of its mandate and member; the amount is micro-CHF."""

    mandate_no: int
    id: UUID
    mandate_id: str
    user_id: str
    amount: int
    state: HoldState
    provider: str | None
    model: str | None
    feature_instance_id: str | None
    expires_at: datetime
    settled_at: datetime | None
    settled_by: UUID | None

    def state_at(self, now: datetime) -> HoldState:
        """What it is at a time: an open one whose time is over is expired."""
        return "EXPIRED" if self.state == "OPEN" and self.expires_at <= now else self.state


async def insert_holds(connection: AsyncConnection, holds: Sequence[NewHold]) -> None:
    """Reserves the amounts; one statement."""
    if not holds:
        return
    await driver_connection(connection).execute(
        "WITH changed AS (INSERT INTO holds (mandate_no, id, account_no, member_account_no, amount, provider, model,"
        " feature_instance_id, created_at, created_by, expires_at)"
        " SELECT * FROM unnest($1::int[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[],"
        " $8::text[], $9::timestamptz[], $10::text[], $11::timestamptz[])"
        f" RETURNING mandate_no, account_no, amount AS by, {_FOR.format('')}),{_FOLLOWED} SELECT",
        *(list(column) for column in zip(*holds, strict=True)),
    )


async def read_holds(connection: AsyncConnection, ids: Collection[tuple[int, UUID]]) -> dict[UUID, Hold]:
    """Holds by id, given as (mandate, hold); what does not exist is missing."""
    rows = await driver_connection(connection).fetch(
        "SELECT h.mandate_no, h.id, m.id AS mandate_id, a.user_id, h.amount, h.state, h.provider, h.model,"
        " h.feature_instance_id, h.expires_at, h.settled_at, h.settled_by"
        " FROM unnest($1::int[], $2::uuid[]) AS given (mandate_no, id)"
        " JOIN holds h ON h.mandate_no = given.mandate_no AND h.id = given.id"
        " JOIN mandates m ON m.no = h.mandate_no"
        " JOIN accounts a ON a.mandate_no = h.mandate_no AND a.no = h.member_account_no",
        [mandate_no for mandate_no, _ in ids],
        [hold for _, hold in ids],
    )
    return {row["id"]: Hold(*row) for row in rows}


async def settle_holds(connection: AsyncConnection, naming: Iterable[tuple[int, UUID, UUID]], *, now: datetime) -> None:
    """Captures the holds that usage names, given as (mandate, hold, event): the first event of each settles it. One
    that is no longer open, of another mandate, or not there at all changes nothing."""
    first: dict[tuple[int, UUID], UUID] = {}
    for mandate_no, hold, event_id in naming:
        first.setdefault((mandate_no, hold), event_id)
    if not first:
        return
    await driver_connection(connection).execute(
        f"{_FOUND}, changed AS (UPDATE holds h SET state = 'CAPTURED', settled_at = $4, settled_by = found.settled_by"
        " FROM found WHERE h.mandate_no = found.mandate_no AND h.id = found.id"
        f" AND found.state = 'OPEN' AND found.expires_at > $4{_RELEASED}),{_FOLLOWED} SELECT",
        [mandate_no for mandate_no, _ in first],
        [hold for _, hold in first],
        list(first.values()),
        now,
    )


async def void_hold(connection: AsyncConnection, mandate_no: int, hold: UUID, *, now: datetime) -> None:
    """Gives back the amount of an open hold."""
    await driver_connection(connection).execute(
        f"{_FOUND}, changed AS (UPDATE holds h SET state = 'VOIDED', settled_at = $4"
        " FROM found WHERE h.mandate_no = found.mandate_no AND h.id = found.id"
        f" AND found.state = 'OPEN'{_RELEASED}),{_FOLLOWED} SELECT",
        [mandate_no],
        [hold],
        [None],
        now,
    )


async def mandates_with_due_holds(connection: AsyncConnection, *, now: datetime, limit: int) -> list[int]:
    """The mandates of at most `limit` open holds whose time is over, those first that have waited longest."""
    rows = await driver_connection(connection).fetch(
        "SELECT DISTINCT mandate_no FROM (SELECT mandate_no FROM holds WHERE settled_at IS NULL AND expires_at <= $1"
        " ORDER BY expires_at LIMIT $2) AS due",
        now,
        limit,
    )
    return [row["mandate_no"] for row in rows]


async def expire_holds(connection: AsyncConnection, mandate_no: int, *, now: datetime, limit: int) -> int:
    """Gives back the amounts of at most `limit` holds of a mandate whose time is over; returns how many."""
    expired: int = await driver_connection(connection).fetchval(
        "WITH due AS (SELECT mandate_no, id FROM holds WHERE mandate_no = $1 AND state = 'OPEN'"
        " AND expires_at <= $2 LIMIT $3),"
        " changed AS (UPDATE holds h SET state = 'EXPIRED', settled_at = $2 FROM due"
        f" WHERE h.mandate_no = due.mandate_no AND h.id = due.id{_RELEASED}),{_FOLLOWED} SELECT count(*) FROM changed",
        mandate_no,
        now,
        limit,
    )
    return expired


async def move_holds(connection: AsyncConnection, mandate_no: int, *, pool_no: int, to_members: bool) -> None:
    """Moves the open holds of a mandate to the accounts of their members, or to the pool. They count towards the same
    limits as before."""
    await driver_connection(connection).execute(
        "WITH before AS (SELECT id, account_no, amount,"
        " CASE WHEN $3 THEN member_account_no ELSE $2::bigint END AS target"
        " FROM holds WHERE mandate_no = $1 AND state = 'OPEN'),"
        " put AS (UPDATE holds h SET account_no = before.target FROM before"
        " WHERE h.mandate_no = $1 AND h.id = before.id AND before.target <> before.account_no"
        f" RETURNING before.account_no AS source, before.target, before.amount, {_FOR.format('h.')}),"
        f" changed AS (SELECT $1::int AS mandate_no, source AS account_no, -amount AS by, {_FOR.format('')} FROM put"
        f" UNION ALL SELECT $1::int, target, amount, {_FOR.format('')} FROM put),{_FOLLOWED} SELECT",
        mandate_no,
        pool_no,
        to_members,
    )
