"""Ledger rows that are written as ready bytes come back as what was meant, whatever is missing in an event."""

from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

import pytest

from rappen_contracts import Event
from rappen_contracts.types import since_epoch
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.charging.usage_events import Usage
from services.billing.ledger.domain import Posting
from services.billing.ledger.keys import ChargeKeys
from services.billing.ledger.repository import insert_rows
from services.billing.ledger.rows import COLUMNS, ChargeRow, charges_among, encoded_row
from services.billing.pricing.rating import PriceSource
from services.chassis.database import Database, driver_connection

AT = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)
BARE: dict[str, Any] = {"mandate_id": "m", "user_id": "u", "provider": "p", "model": "x", "quantities": {"images": "1"}}
FULL = BARE | {
    "tokens": {"input": 10, "cache_read": 20, "output": 40},
    "workflow_id": "w-1",
    "description": "Zürich: «Beschreibung» 🧾",
    "processing_time_ms": 2**53 - 1,
    "bytes_sent": 0,
    "bytes_received": 7,
    "error_count": 1,
}
STORAGE = {"mandate_id": "m", "user_id": "u", "kind": "storage", "feature_instance_id": "i", "bytes_in_use": 5}


def _posting(number: int, fields: dict[str, Any]) -> Posting:
    data = UsageRecorded.model_validate(fields)
    event = Event(UUID(int=number), "ch.rappen.usage.recorded.v1", "/test", AT, data, bytes(range(16)))
    usage = Usage.of(event)
    usage.keys = ChargeKeys(2**31 - 1, 11, 12, 13, 14)
    return usage.posting(10**24, PriceSource("0", None, None), 12)


def _row(posting: Posting, *, amount: int = 1_000_001, balance_after: int = -(2**62)) -> bytes:
    return encoded_row(
        posting,
        amount=amount,
        seq=3,
        balance_after=balance_after,
        recorded_at=since_epoch(AT + timedelta(microseconds=1)),
        day=date(2026, 5, 1),
        derivation=b'{"cost":"1"}' if posting.usage else None,
        grants=b"5:-7 6:-1" if posting.usage else None,
    )


def test_charges_are_told_from_other_rows() -> None:
    expiry = Posting.own(
        mandate_no=2**31 - 1,
        event_id=UUID(int=3),
        member_account_no=12,
        posted_account_no=12,
        transaction_type="ADJUSTMENT",
        amount=-5,
        contra_account="PROMOTIONAL",
        reference_type="SYSTEM",
        occurred_at=AT,
        description="DEBITREVENUE",
    )
    correction = expiry.changed(event_id=UUID(int=4).bytes, contra_account="REVENUE", dimension_no=14)
    charged = [_posting(1, FULL), _posting(2, BARE)]
    found = charges_among([_row(each) for each in (expiry, *charged, correction)])
    assert found == {each.identity: ChargeRow(12, 3, 1_000_001, -(2**62)) for each in charged}


async def test_a_row_is_read_as_it_was_meant(database: Database) -> None:
    rows = [
        _row(_posting(1, FULL)),
        _row(_posting(2, BARE)),
        _row(_posting(3, FULL | {"bytes_sent": None})),
        _row(_posting(4, STORAGE)),
    ]
    async with database.reading() as connection:
        driver = driver_connection(connection)
        transaction = driver.transaction()
        await transaction.start()
        try:
            # Its number in the chain is the same for all here, so the key of the chain is out of the way.
            for row in rows:
                await insert_rows(connection, [row])
                found = await driver.fetchrow(
                    f"SELECT {', '.join(COLUMNS)} FROM transactions WHERE mandate_no = $1", 2**31 - 1
                )
                _compare(found, rows.index(row) + 1)
                await transaction.rollback()
                transaction = driver.transaction()
                await transaction.start()
        finally:
            await transaction.rollback()


def _compare(found: Any, number: int) -> None:
    full, storage = number in (1, 3), number == 4
    assert dict(found) == {
        "mandate_no": 2**31 - 1,
        "event_id": UUID(int=number),
        "member_account_no": 11,
        "posted_account_no": 12,
        "seq": 3,
        "amount": 1_000_001,
        "balance_after": -(2**62),
        "occurred_at": AT,
        "recorded_at": AT + timedelta(microseconds=1),
        "period_day": date(2026, 5, 1),
        "dimension_no": 14,
        "digest": bytes(range(16)),
        "transaction_type": "DEBIT",
        "contra_account": "REVENUE",
        "reference_type": "STORAGE" if storage else "WORKFLOW",
        "processing_time_ms": 2**53 - 1 if full else None,
        "bytes_sent": 0 if number == 1 else None,
        "bytes_received": 7 if full else None,
        "error_count": 1 if full else None,
        "input_tokens": 30 if full else None,
        "output_tokens": 40 if full else None,
        "workflow_id": "w-1" if full else None,
        "description": FULL["description"] if full else None,
        "derivation": '{"cost":"1"}',
        "own": False,
        "reference_id": None,
        "created_by_user_id": None,
        "grants": "5:-7 6:-1",
    }


async def test_a_row_that_is_no_usage_is_read_as_it_was_meant(database: Database) -> None:
    posting = Posting.own(
        mandate_no=2**31 - 1,
        event_id=UUID(int=5),
        member_account_no=11,
        posted_account_no=12,
        transaction_type="ADJUSTMENT",
        amount=-5,
        contra_account="TRANSFER",
        reference_type="SYSTEM",
        occurred_at=AT,
        description="Überweisung",
        reference_id="ref",
        created_by_user_id="admin",
    )
    async with database.reading() as connection:
        driver = driver_connection(connection)
        transaction = driver.transaction()
        await transaction.start()
        try:
            await insert_rows(connection, [_row(posting, amount=-5, balance_after=7)])
            found = await driver.fetchrow(
                f"SELECT {', '.join(COLUMNS)} FROM transactions WHERE mandate_no = $1", 2**31 - 1
            )
        finally:
            await transaction.rollback()
    assert {name: value for name, value in found.items() if value is not None} == {
        "mandate_no": 2**31 - 1,
        "event_id": UUID(int=5),
        "member_account_no": 11,
        "posted_account_no": 12,
        "seq": 3,
        "amount": -5,
        "balance_after": 7,
        "occurred_at": AT,
        "recorded_at": AT + timedelta(microseconds=1),
        "period_day": date(2026, 5, 1),
        # It is kept for ever, so it stays what it was when rows were written value by value.
        "digest": blake2b(b"12|ADJUSTMENT|-5|TRANSFER|ref", digest_size=16).digest(),
        "transaction_type": "ADJUSTMENT",
        "contra_account": "TRANSFER",
        "reference_type": "SYSTEM",
        "own": True,
        "description": "Überweisung",
        "reference_id": "ref",
        "created_by_user_id": "admin",
    }


async def test_the_columns_are_all_that_the_ledger_has(database: Database) -> None:
    async with database.reading() as connection:
        rows = await driver_connection(connection).fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'transactions'"
        )
    assert sorted(row["column_name"] for row in rows) == sorted(COLUMNS)


def test_rows_sort_as_bytes_by_mandate_and_event() -> None:
    ids = [2**127, 5, 2**64, 1, 2**100]
    ordered = sorted(_row(_posting(number, BARE)) for number in ids)
    assert ordered == [_row(_posting(number, BARE)) for number in sorted(ids)]


@pytest.mark.parametrize("changed", [{"amount": 2**63}, {"balance_after": -(2**63) - 1}])
def test_a_number_that_the_ledger_cannot_hold_is_an_overflow(changed: dict[str, int]) -> None:
    with pytest.raises(OverflowError):
        _row(_posting(1, BARE), **changed)


@pytest.mark.parametrize(
    "time",
    [
        datetime(1900, 1, 1, tzinfo=UTC),
        datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        AT,
        datetime(9999, 12, 31, 23, 59, 59, 999998, tzinfo=UTC),
    ],
)
async def test_times_count_as_the_database_counts_them(database: Database, time: datetime) -> None:
    async with database.reading() as connection:
        counted = await driver_connection(connection).fetchval(
            "SELECT (extract(epoch FROM $1::timestamptz) - 946684800) * 1000000", time
        )
    assert counted == since_epoch(time)
