"""Postings of every kind go one way into the ledger: what takes a charge back too, and the audit finds nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.billing.charging.cancellations import Cancellation, insert_cancellations
from services.billing.ledger.domain import BALANCE_MAX, BillingModel, Posting
from services.billing.ledger.errors import BalanceOutOfRange
from services.billing.ledger.write_postings import prepare_postings, write_postings
from services.billing.mandates.repository import lock_mandate
from services.billing.money import exact, in_chf
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.charging import charge, reversal
from tests.support.events import usage_record
from tests.support.ledger import Books

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)


async def _charges(books: Books, mandate: str) -> list[asyncpg.Record]:
    return await books.fetch(
        "SELECT t.* FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
        " WHERE m.id = $1 AND t.contra_account = 'REVENUE' AND t.transaction_type = 'DEBIT' ORDER BY t.seq",
        mandate,
    )


async def _write(database: Database, postings: Sequence[Posting], *cancelled: asyncpg.Record) -> None:
    """Writes postings; the usage of the rows whose charges they take back is cancelled, as the audit expects it."""
    cancellations = [Cancellation(row["mandate_no"], row["event_id"], "for tests") for row in cancelled]
    async with database.transaction() as connection:
        await insert_cancellations(connection, cancellations, system_clock())
        mandate = await lock_mandate(connection, postings[0].mandate_no)
        calendars = {mandate.no: mandate.calendar}
        await write_postings(connection, postings, calendars=calendars, now=system_clock())


@pytest.mark.parametrize("model", ["PREPAY_MANDATE", "PREPAY_USER", "UNLIMITED"])
async def test_a_charge_is_taken_back_and_the_books_add_up(
    api: BillingApi, books: Books, mandate: str, model: BillingModel
) -> None:
    if model != "PREPAY_MANDATE":
        path = f"/api/billing/admin/model/{mandate}"
        answer = await api.call(system_admin(), "POST", path, json={"billingModel": model})
        assert answer.status_code == 200, answer.text
    amounts = ("0.0100000123", "0.0200000456", "0.0300000789")
    for amount in amounts:
        await charge(api.database, usage_record(mandate, "user-1", amount=amount, at=AT))
    first, second, third = await _charges(books, mandate)
    await _write(api.database, [reversal(first), reversal(third)], first, third)
    assert await books.failing() == {}
    (rollup,) = await books.fetch("SELECT * FROM rollups WHERE mandate_no = $1", first["mandate_no"])
    assert (rollup["cost"], rollup["count"]) == (second["amount"], 1)
    (account,) = await books.fetch("SELECT * FROM accounts WHERE no = $1", first["posted_account_no"])
    # Charged once more, the account goes on with the remainder that the charges left, not the reversals.
    await charge(api.database, usage_record(mandate, "user-1", amount="0.01", at=AT))
    assert await books.failing() == {}
    (after,) = await books.fetch("SELECT * FROM accounts WHERE no = $1", first["posted_account_no"])
    assert after["seq"] == account["seq"] + 1
    assert account["rounding_remainder"] == after["rounding_remainder"] != 0


async def test_a_charge_and_what_takes_it_back_may_come_in_one_transaction_with_a_credit(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await charge(api.database, usage_record(mandate, "user-1", amount="1", at=AT))
    (row,) = await _charges(books, mandate)
    credit = reversal(
        row, event_id=uuid4().bytes, transaction_type="CREDIT", contra_account="TAKE_OVER", reference_type="SYSTEM"
    )
    await _write(api.database, [reversal(row), credit.changed(dimension_no=None)], row)
    assert await books.failing() == {}
    (pool,) = await books.fetch("SELECT * FROM accounts WHERE no = $1", row["posted_account_no"])
    # A credit raises the level; what only comes back does not.
    assert (pool["balance"], pool["balance_after_last_credit"], pool["seq"]) == (row["amount"], row["amount"], 3)


async def test_the_same_reversal_is_posted_once(api: BillingApi, books: Books, mandate: str) -> None:
    await charge(api.database, usage_record(mandate, "user-1", amount="1", at=AT))
    (row,) = await _charges(books, mandate)
    await _write(api.database, [reversal(row)], row)
    with pytest.raises(asyncpg.UniqueViolationError):
        await _write(api.database, [reversal(row)])
    assert await books.failing() == {}
    rows = await books.value("SELECT count(*) FROM transactions WHERE mandate_no = $1", row["mandate_no"])
    assert rows == 2


async def test_a_publisher_that_names_free_usage_like_a_reversal_disturbs_nothing(
    api: BillingApi, books: Books, mandate: str
) -> None:
    """Ids of usage are chosen by publishers; those that are made here are in a space of their own."""
    await charge(api.database, usage_record(mandate, "user-1", amount="1", at=AT))
    (row,) = await _charges(books, mandate)
    posting = reversal(row)
    await charge(
        api.database, usage_record(mandate, "user-1", event_id=UUID(bytes=posting.event_id), amount="0", at=AT)
    )
    await _write(api.database, [posting], row)
    assert await books.failing() == {}


async def test_nothing_is_written_where_one_posting_of_several_is_out_of_range(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await charge(api.database, usage_record(mandate, "user-1", amount="1", at=AT))
    (row,) = await _charges(books, mandate)
    with pytest.raises(BalanceOutOfRange):
        await _write(api.database, [reversal(row), reversal(row, event_id=uuid4().bytes, amount=BALANCE_MAX + 1)])
    rows = await books.value("SELECT count(*) FROM transactions WHERE mandate_no = $1", row["mandate_no"])
    assert rows == 1
    assert await books.failing() == {}


async def test_a_posting_that_cannot_be_made_is_named_and_its_neighbours_are_prepared(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await charge(api.database, usage_record(mandate, "user-1", amount="1", at=AT))
    (row,) = await _charges(books, mandate)
    no_dimension, good = reversal(row, event_id=uuid4().bytes, dimension_no=None), reversal(row)
    priced = reversal(row, event_id=uuid4().bytes, amount=None, price=exact(Decimal("0.0000014")))
    async with api.database.transaction() as connection:
        locked = await lock_mandate(connection, row["mandate_no"])
        prepared = await prepare_postings(
            connection, [no_dimension, good, priced], calendars={locked.no: locked.calendar}, now=system_clock()
        )
    ((named, error),) = prepared.faulty
    assert (named, str(error)) == (no_dimension, "a posting against revenue has a dimension")
    assert len(prepared.rows) == 2
    account = prepared.accounts[row["posted_account_no"]]
    # An exact price is what is paid, also of an adjustment; it is rounded to micro-francs, and what is left over waits
    # on the account.
    assert (account.seq, account.balance, in_chf(account.rounding_remainder)) == (3, -1, Decimal("0.0000004"))
