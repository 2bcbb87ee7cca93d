"""The audit names what somebody changed about cancelled usage: the cancellation, its charge, or what takes it back."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.billing.audit import audit
from services.billing.ledger.domain import transaction_id
from services.chassis.database import Database
from tests.support.charging import charge
from tests.support.databases import on_driver, unseen
from tests.support.events import new_mandate, usage_record, voided_record
from tests.support.stack import ServerPair

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)


class Cancelled(NamedTuple):
    """A mandate with two charges of which the first is cancelled, usage that waits for a price, and what is needed to
    speak of them in statements."""

    no: int
    pool: int
    first: UUID
    second: UUID
    waits: UUID
    id: UUID
    other_id: UUID


class Tampering(NamedTuple):
    """Statements on what `Cancelled` names; the checks that fail and on which account, and what is said."""

    statements: str
    named: list[tuple[str, str | None]]
    detail: str


_BACK = "mandate_no = :no AND own AND contra_account = 'REVENUE'"
# A further row that takes the same charge back, with balance, number of rows, rollups as they are then.
_AGAIN = f"""
INSERT INTO transactions (mandate_no, event_id, member_account_no, posted_account_no, seq, transaction_type, amount,
                          balance_after, contra_account, reference_type, reference_id, occurred_at, recorded_at,
                          period_day, dimension_no, digest, own)
SELECT mandate_no, gen_random_uuid(), member_account_no, posted_account_no, 4, transaction_type, amount,
       balance_after + amount, contra_account, reference_type, REFERENCE, occurred_at, recorded_at, period_day,
       dimension_no, digest, true
  FROM transactions WHERE {_BACK};
UPDATE accounts SET seq = seq + 1, balance = balance + 1500000 WHERE no = :pool;
UPDATE rollups SET cost = cost - 1500000, count = count - 1 WHERE mandate_no = :no
"""

TAMPERINGS = {
    "a cancellation": Tampering(
        "DELETE FROM cancellations WHERE mandate_no = :no",
        [("reversals", "pool")],
        "what takes back :id has no cancelled charge",
    ),
    "a cancellation of another charge": Tampering(
        "UPDATE cancellations SET event_id = ':second' WHERE mandate_no = :no",
        [("reversals", "pool")],
        "and 1 more",
    ),
    "a cancellation without its effect": Tampering(
        "INSERT INTO cancellations (mandate_no, event_id, reason, cancelled_at) VALUES (:no, ':second', 'x', now())",
        [("reversals", "pool")],
        "charge :other_id is cancelled and not taken back",
    ),
    "a cancellation of what waits": Tampering(
        "INSERT INTO cancellations (mandate_no, event_id, reason, cancelled_at) VALUES (:no, ':waits', 'x', now())",
        [("reversals", None)],
        "event :waits is cancelled and waits for a price",
    ),
    "the same charge taken back twice": Tampering(
        _AGAIN.replace("REFERENCE", "reference_id"),
        [("reversals", "pool")],
        "charge :id is taken back 2 times",
    ),
    "a charge taken back that nobody cancelled": Tampering(
        _AGAIN.replace("REFERENCE", "':other_id'"),
        [("reversals", "pool")],
        "what takes back :other_id has no cancelled charge",
    ),
    "the amount that is taken back": Tampering(
        f"UPDATE transactions SET amount = amount - 5, balance_after = balance_after - 5 WHERE {_BACK};"
        " UPDATE accounts SET balance = balance - 5 WHERE no = :pool;"
        " UPDATE rollups SET cost = cost + 5 WHERE mandate_no = :no",
        [("reversals", "pool")],
        "charge :id is 1500000, taken back is 1499995",
    ),
    "the day on which it counts": Tampering(
        f"UPDATE transactions SET period_day = period_day + 1 WHERE {_BACK};"
        " INSERT INTO rollups SELECT mandate_no, member_account_no, day + 1, dimension_no, -1500000, -1 FROM rollups"
        " WHERE mandate_no = :no; UPDATE rollups SET cost = cost + 1500000, count = count + 1"
        " WHERE mandate_no = :no AND count > 0",
        [("reversals", "pool")],
        "what takes back :id is of another account, day, dimension or kind",
    ),
    "what it refers to": Tampering(
        f"UPDATE transactions SET reference_id = NULL WHERE {_BACK}",
        [("reversals", "pool")],
        "and 1 more",
    ),
    "its kind": Tampering(
        f"UPDATE transactions SET reference_type = 'STORAGE' WHERE {_BACK}",
        [("reversals", "pool")],
        "of another account, day, dimension or kind",
    ),
    "what was charged, with all sums": Tampering(
        "UPDATE transactions SET event_id = gen_random_uuid() WHERE mandate_no = :no AND event_id = ':first'",
        [("reversals", "pool")],
        "what takes back :id has no cancelled charge",
    ),
    "cancelled usage that was charged": Tampering(
        "INSERT INTO unposted_events (mandate_no, event_id, digest, reason, detail, occurred_at, recorded_at,"
        " price_revision) SELECT mandate_no, event_id, digest, 'CANCELLED', '', occurred_at, recorded_at, 0"
        " FROM transactions WHERE mandate_no = :no AND event_id = ':first'",
        [("claims", None)],
        "1 events are charged and claimed as free or cancelled too, one is :first",
    ),
}


@pytest.fixture(scope="module")
async def cancelled(database: Database) -> Cancelled:
    mandate = new_mandate()
    first, second = (usage_record(mandate, amount="1", at=AT) for _ in range(2))
    waits = usage_record(mandate, cost=None, model=f"model-{uuid4()}", tokens={"input": 5}, at=AT)
    await charge(database, first, second, waits)
    await charge(database, voided_record(mandate, first.event_id))
    async with on_driver(database) as connection:
        rows = await connection.fetch(
            "SELECT t.* FROM transactions t JOIN mandates m ON m.no = t.mandate_no WHERE m.id = $1 ORDER BY seq",
            mandate,
        )
    assert [row["event_id"] for row in rows[:2]] == [first.event_id, second.event_id]
    ids = [transaction_id(row["posted_account_no"], row["seq"]) for row in rows]
    no, pool = rows[0]["mandate_no"], rows[0]["posted_account_no"]
    return Cancelled(no, pool, first.event_id, second.event_id, waits.event_id, ids[0], ids[1])


@pytest.fixture
async def admin(servers: ServerPair) -> AsyncIterator[asyncpg.Connection]:
    """The database's owner, in a transaction that nobody else ever sees."""
    async with unseen(servers.admin_dsn, schema="billing") as connection:
        yield connection


def _filled(text: str, cancelled: Cancelled) -> str:
    for name, value in sorted(cancelled._asdict().items(), reverse=True):
        text = text.replace(f":{name}", str(value))
    return text


async def test_books_with_a_reversal_are_in_order(admin: asyncpg.Connection, cancelled: Cancelled) -> None:
    checks = {check.name: check for check in await audit(admin)}
    assert {name: check.failing for name, check in checks.items() if check.failing_count} == {}
    assert checks["reversals"].looked_at


@pytest.mark.parametrize("what", TAMPERINGS)
async def test_what_somebody_changed_about_a_cancellation_is_named(
    admin: asyncpg.Connection, cancelled: Cancelled, what: str
) -> None:
    statements, named, detail = TAMPERINGS[what]
    for statement in _filled(statements, cancelled).split(";"):
        assert not (await admin.execute(statement)).endswith(" 0"), statement
    failing = {(check.name, entry["accountId"]): entry for check in await audit(admin) for entry in check.failing}
    member = await admin.fetchval("SELECT no FROM accounts WHERE mandate_no = $1 AND type = 'USER'", cancelled.no)
    accounts = {"reversals": {"pool": str(cancelled.pool), None: None}, "claims": {None: str(member)}}
    assert failing.keys() == {(check, accounts[check][account]) for check, account in named}
    (check, _), entry = next(iter(failing.items()))
    assert check == named[0][0]
    assert _filled(detail, cancelled) in (entry["detail"] or "")
