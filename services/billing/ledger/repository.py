"""Writes of the ledger: accounts, rows, balances, rollups. A fixed number of statements, whatever the number of
rows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Literal, NamedTuple
from uuid import UUID

from asyncpg.exceptions import (
    DataError,
    IntegrityConstraintViolationError,
    SerializationError,
    UniqueViolationError,
)
from asyncpg.pgproto import pgproto
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.closed_days import keep_day_open
from services.billing.ledger.domain import LockedAccount
from services.billing.ledger.errors import RowsRefused
from services.billing.ledger.limit_sums import LIMITED, named_in
from services.billing.ledger.rollup_sums import TOWARDS_SUMS
from services.billing.ledger.rows import COLUMNS, copied, identity_of
from services.billing.ledger.thresholds import THRESHOLD, low_at
from services.billing.ledger.workflow_blocks import KEPT_WORKFLOWS, workflows_text
from services.billing.money import exact, remainder_text
from services.chassis.database import driver_connection

__all__ = [
    "RecordedUsage",
    "RollupKey",
    "add_to_rollups",
    "claimed_digests",
    "faulty_rows",
    "insert_rows",
    "keep_balance_after_credit",
    "read_accounts",
    "recorded_digests",
    "recorded_usage",
    "update_accounts",
]

# Rows that are tried together when some of a batch are faulty: what follows a faulty one is tried again.
TRIED_AT_ONCE = 64
_LINE = re.compile(r"\bline (\d+)")

# How many claims are read, at most, for so many events that are looked up; and in any case.
CLAIMS_READ_OF = 4
CLAIMS_READ_MIN = 100

# One row of the rollups: mandate, the member's account, the day, the dimension.
RollupKey = tuple[int, int, date, int]


_READ_ACCOUNTS = (
    "SELECT a.mandate_no, a.no, a.type, a.user_id, a.balance, a.held, a.rounding_remainder, a.seq, a.granted, a.low,"
    f" m.billing_model, ({THRESHOLD.format(a='a', m='m')})::bigint, a.credit_limit"
    " FROM unnest($1::int[], $2::bigint[]) AS given (mandate_no, no)"
    " JOIN accounts a ON a.mandate_no = given.mandate_no AND a.no = given.no"
    " JOIN mandates m ON m.no = given.mandate_no"
)


async def read_accounts(connection: AsyncConnection, numbers: Iterable[tuple[int, int]]) -> dict[int, LockedAccount]:
    """Accounts, given as (mandate, account), as they stand under the lock of their mandates, which the caller has taken
    in an earlier statement: it is the lock of all accounts of a mandate, so they need none of their own."""
    driver = driver_connection(connection)
    wanted = set(numbers)
    rows = await driver.fetch(_READ_ACCOUNTS, [mandate_no for mandate_no, _ in wanted], [no for _, no in wanted])
    accounts = {}
    for mandate_no, no, kind, user_id, balance, held, remainder, seq, granted, low, *rule in rows:
        accounts[no] = LockedAccount(
            mandate_no, no, kind, user_id, balance, held, exact(remainder), seq, granted, low, low_at(kind, *rule)
        )
    return accounts


async def insert_rows(connection: AsyncConnection, rows: Sequence[bytes]) -> None:
    """Appends rows, as `rows.encoded_row` makes them; raises `UniqueViolationError` when one of the events has a row
    already, and `RowsRefused` when PostgreSQL refuses a row for its content."""
    await keep_day_open(connection, rows)
    try:
        await _copy(connection, rows)
    except UniqueViolationError:
        raise
    except (IntegrityConstraintViolationError, DataError) as error:
        raise RowsRefused(rows) from error


async def _copy(connection: AsyncConnection, rows: Sequence[bytes]) -> None:
    # As a view, because plain bytes would be taken for the name of a file.
    driver = driver_connection(connection)
    await driver.copy_to_table("transactions", source=memoryview(copied(rows)), format="binary", columns=COLUMNS)


async def faulty_rows(connection: AsyncConnection, rows: Sequence[bytes]) -> dict[tuple[int, bytes], str]:
    """The mandate and event of each row that is refused for what is in it, and why. Nothing is written.

    PostgreSQL names the row at which it stops, so each faulty row costs one piece, and all others a part of one.
    """
    driver = driver_connection(connection)
    faulty: dict[tuple[int, bytes], str] = {}
    trial = driver.transaction()
    await trial.start()
    try:
        # Rows that were taken may stay until the end of the trial, so one savepoint serves all pieces.
        await driver.execute("SAVEPOINT trial")
        at, size = 0, TRIED_AT_ONCE
        while at < len(rows):
            piece = rows[at : at + size]
            try:
                await _copy(connection, piece)
            except (IntegrityConstraintViolationError, DataError) as error:
                await driver.execute("ROLLBACK TO SAVEPOINT trial")
                line = _LINE.search(error.context or "")
                if line is None and size > 1:
                    size = 1
                    continue
                stopped_at = int(line[1]) - 1 if line is not None and size > 1 else 0
                if not isinstance(error, UniqueViolationError):
                    faulty[identity_of(piece[stopped_at])] = type(error).__name__
                at += stopped_at + 1
            else:
                at += len(piece)
    finally:
        await trial.rollback()
    return faulty


async def update_accounts(connection: AsyncConnection, accounts: Sequence[LockedAccount]) -> None:
    """Moves the balances of accounts by the sum of their rows, marks them as unpublished, and keeps the workflows of
    the rows; one statement. An account without a new row is left alone: its only usage was refused, so there is no new
    balance to publish.

    A mark stays until the balance was published, however often it moves meanwhile. It is deleted under the row lock of
    its account, and an account is updated here before it is marked, so a mark that is found is not about to go.
    Contra accounts are nobody's balance and are not published. Raises SerializationError, so that nothing is written
    and it is tried again, when an account is no longer as it was read: it was moved without the lock of its mandate.
    """
    driver = driver_connection(connection)
    accounts = [account for account in accounts if account.rows]
    if not accounts:
        return
    moved = await driver.fetchval(
        # Remainders are sent as text, which they are already where a charge has kept them.
        "WITH moved AS (UPDATE accounts a SET balance = a.balance + given.by,"
        " rounding_remainder = given.rounding_remainder::numeric, seq = given.seq, granted = given.granted"
        " FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],"
        " $8::text[]) AS given (mandate_no, no, by, rounding_remainder, seq, rows, granted, workflow_ids)"
        " WHERE a.mandate_no = given.mandate_no AND a.no = given.no AND a.seq = given.seq - given.rows"
        " RETURNING a.mandate_no, a.no, a.type, a.seq, given.rows, given.workflow_ids),"
        " marked AS (INSERT INTO unpublished_balances (mandate_no, account_no)"
        " SELECT mandate_no, no FROM moved WHERE type IN ('MANDATE', 'USER') ON CONFLICT DO NOTHING),"
        f" {KEPT_WORKFLOWS}"
        " SELECT count(*) FROM moved",
        [account.mandate_no for account in accounts],
        [account.no for account in accounts],
        [account.moved for account in accounts],
        [account.remainder_text or remainder_text(account.rounding_remainder) for account in accounts],
        [account.seq for account in accounts],
        [account.rows for account in accounts],
        [account.granted for account in accounts],
        [workflows_text(account.workflow_ids) for account in accounts],
    )
    if moved != len(accounts):
        raise SerializationError(f"{len(accounts) - moved} accounts were moved without the lock of their mandate")


async def keep_balance_after_credit(connection: AsyncConnection, credited: Sequence[tuple[int, int]]) -> None:
    """Stores the present balance of accounts, given as (mandate, account), as that after their last credit: the warning
    threshold is a percentage of it."""
    driver = driver_connection(connection)
    if credited:
        await driver.execute(
            "UPDATE accounts a SET balance_after_last_credit = a.balance"
            " FROM unnest($1::int[], $2::bigint[]) AS given (mandate_no, account_no)"
            " WHERE a.mandate_no = given.mandate_no AND a.no = given.account_no",
            [mandate_no for mandate_no, _ in credited],
            [account_no for _, account_no in credited],
        )


# What the given rollups add to the costs that count towards a limit.
_TOWARDS_LIMITS = (
    f"{LIMITED.format('$7')}, towards_limits AS (INSERT INTO limit_costs AS c (mandate_no, kind, key, day, cost)"
    " SELECT given.mandate_no, named.kind, named.key, given.day, sum(given.cost)"
    " FROM limited JOIN given ON given.mandate_no = limited.no AND given.day >= limited.limits_since"
    " CROSS JOIN LATERAL (SELECT d.provider, d.model, d.feature_instance_id FROM dimensions d"
    " WHERE d.mandate_no = given.mandate_no AND d.no = given.dimension_no OFFSET 0) AS dimension"
    f"{named_in('given', 'dimension')} WHERE EXISTS (SELECT FROM limits l"
    " WHERE l.mandate_no = given.mandate_no AND l.kind = named.kind AND l.key = named.key OFFSET 0)"
    " GROUP BY 1, 2, 3, 4 ON CONFLICT (mandate_no, kind, key, day) DO UPDATE SET cost = c.cost + excluded.cost)"
)


async def add_to_rollups(connection: AsyncConnection, sums: Mapping[RollupKey, Sequence[int]]) -> None:
    """Adds cost (micro-CHF) and count to the rollups, to the sums of those that are summed, and the cost to what counts
    towards limits; one statement. Rows are in one order, so that no two batches deadlock."""
    driver = driver_connection(connection)
    if not sums:
        return
    ordered = sorted(sums)
    mandates, accounts, days, dimensions = zip(*ordered, strict=True)
    await driver.execute(
        "WITH given AS MATERIALIZED (SELECT * FROM unnest($1::int[], $2::bigint[], $3::date[], $4::int[], $5::bigint[],"
        " $6::bigint[]) AS given (mandate_no, member_account_no, day, dimension_no, cost, count)),"
        f"{_TOWARDS_LIMITS}, {TOWARDS_SUMS}"
        " INSERT INTO rollups AS r (mandate_no, member_account_no, day, dimension_no, cost, count)"
        " SELECT * FROM given"
        " ON CONFLICT (mandate_no, member_account_no, day, dimension_no)"
        " DO UPDATE SET cost = r.cost + excluded.cost, count = r.count + excluded.count",
        mandates,
        accounts,
        days,
        dimensions,
        [sums[key][0] for key in ordered],
        [sums[key][1] for key in ordered],
        sorted(set(mandates)),
    )


_DIGESTS = (
    "SELECT t.mandate_no, t.event_id, t.digest FROM unnest($1::int[], $2::uuid[]) AS given (mandate_no, event_id)"
    " JOIN {} t ON t.mandate_no = given.mandate_no AND t.event_id = given.event_id AND NOT t.own"
)
_DIGESTS_OF_BOTH = f"{_DIGESTS.format('transactions')} UNION ALL {_DIGESTS.format('unposted_events')}"


async def recorded_digests(
    connection: AsyncConnection,
    table: Literal["transactions", "unposted_events", "both"],
    identities: Sequence[tuple[int, bytes]],
) -> dict[tuple[int, bytes], bytes]:
    """The digests of those usage events that a table, or one of both, has already."""
    driver = driver_connection(connection)
    if not identities:
        return {}
    rows = await driver.fetch(
        _DIGESTS_OF_BOTH if table == "both" else _DIGESTS.format(table),
        [mandate_no for mandate_no, _ in identities],
        [pgproto.UUID(event_id) for _, event_id in identities],
    )
    return {(row["mandate_no"], row["event_id"].bytes): row["digest"] for row in rows}


# Mandate by mandate and in the order of the key: where hardly any mandate has claims, a join would read through all.
_CLAIMED = (
    "SELECT u.* FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS given (mandate_no, first, last)"
    " CROSS JOIN LATERAL (SELECT c.mandate_no, c.event_id, c.digest FROM unposted_events c"
    " WHERE c.mandate_no = given.mandate_no AND c.event_id BETWEEN given.first AND given.last AND NOT c.own"
    " ORDER BY c.event_id LIMIT $4) AS u LIMIT $4"
)


async def claimed_digests(
    connection: AsyncConnection, identities: Sequence[tuple[int, bytes]]
) -> dict[tuple[int, bytes], bytes]:
    """The same of those that were claimed without a posting, for many events of which hardly any was.

    Ids begin with their time, as a rule, so few claims lie between the first and the last id of a mandate: they are
    read by that, which takes a tenth of looking up each. Where too many lie there, as with random ids, each is.
    """
    if not identities:
        return {}
    ids: dict[int, list[bytes]] = {}
    for mandate_no, event_id in identities:
        ids.setdefault(mandate_no, []).append(event_id)
    rows_max = max(len(identities) // CLAIMS_READ_OF, CLAIMS_READ_MIN)
    rows = await driver_connection(connection).fetch(
        _CLAIMED,
        list(ids),
        [pgproto.UUID(min(of_mandate)) for of_mandate in ids.values()],
        [pgproto.UUID(max(of_mandate)) for of_mandate in ids.values()],
        rows_max,
    )
    if len(rows) == rows_max:
        return await recorded_digests(connection, "unposted_events", identities)
    between = {(row["mandate_no"], row["event_id"].bytes): row["digest"] for row in rows}
    return {identity: between[identity] for identity in identities if identity in between} if between else {}


class RecordedUsage(NamedTuple):
    """What became of a usage event, in micro-CHF. Where it has no row of the ledger there is a `reason`: it was FREE,
    or it waits. The balance is None where nobody's moved, as in an UNLIMITED mandate."""

    mandate_no: int
    event_id: UUID
    digest: bytes
    reason: str | None
    detail: str | None
    amount: int
    balance_after: int | None
    account_no: int | None
    seq: int | None


async def recorded_usage(
    connection: AsyncConnection, identities: Sequence[tuple[int, UUID]]
) -> dict[tuple[int, UUID], RecordedUsage]:
    """Those of the usage events, given as (mandate, event), that were recorded in either table."""
    rows = await driver_connection(connection).fetch(
        "SELECT given.mandate_no, given.event_id, coalesce(t.digest, u.digest) AS digest, u.reason, u.detail,"
        " coalesce(t.amount, 0) AS amount, CASE WHEN a.type <> 'INTERNAL' THEN t.balance_after END AS balance_after,"
        " t.posted_account_no, t.seq FROM unnest($1::int[], $2::uuid[]) AS given (mandate_no, event_id)"
        " LEFT JOIN transactions t ON t.mandate_no = given.mandate_no AND t.event_id = given.event_id AND NOT t.own"
        " LEFT JOIN accounts a ON a.mandate_no = t.mandate_no AND a.no = t.posted_account_no"
        " LEFT JOIN unposted_events u ON u.mandate_no = given.mandate_no AND u.event_id = given.event_id AND NOT u.own"
        " WHERE t.event_id IS NOT NULL OR u.event_id IS NOT NULL",
        [mandate_no for mandate_no, _ in identities],
        [event_id for _, event_id in identities],
    )
    return {(row["mandate_no"], row["event_id"]): RecordedUsage(*row) for row in rows}
