"""The audit names what somebody changed about a correction: its amount, its price, its row, or that it was made."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import pytest

from services.billing.audit import audit
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.charging import charge
from tests.support.databases import on_driver, unseen
from tests.support.events import new_mandate, usage_record, voided_record
from tests.support.rerating import of_model, rerate
from tests.support.stack import ServerPair

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)


class Corrected(NamedTuple):
    """A mandate with two charges that were corrected twice, of which the second was then cancelled; and a version of
    another model."""

    no: int
    pool: int
    other: int


class Tampering(NamedTuple):
    """A statement on what `Corrected` names, the checks that fail, and what the first of them says."""

    statements: str
    named: set[str]
    detail: str


_OWN = "mandate_no = :no AND own AND derivation IS NOT NULL AND posted_account_no = :pool"
_FIRST = f"{_OWN} AND seq = 3"
_PRICE = "mandate_no = :no AND number = 1"

TAMPERINGS = {
    "the amount, with all sums": Tampering(
        f"UPDATE transactions SET amount = amount - 5 WHERE {_FIRST};"
        " UPDATE transactions SET balance_after = balance_after - 5 WHERE mandate_no = :no AND seq >= 3;"
        " UPDATE accounts SET balance = balance - 5 WHERE no = :pool;"
        " UPDATE rollups SET cost = cost + 5 WHERE mandate_no = :no",
        {"prices"},
        "row 3 was corrected to ",
    ),
    "the price that it is from": Tampering(
        f"""UPDATE transactions SET derivation = regexp_replace(derivation, '"price":"[0-9]+"', '"price":":other"')
            WHERE {_FIRST}""",
        {"prices"},
        "row 3 cannot be priced again: price :other is none of anthropic",
    ),
    "the usage that it is of": Tampering(
        f"""UPDATE transactions SET derivation = replace(derivation, '"input":1000', '"input":1001') WHERE {_FIRST}""",
        {"prices"},
        "row 3 keeps other usage than its charge",
    ),
    "what is recorded beside it": Tampering(
        f"UPDATE price_corrections SET price = price + 1 WHERE {_PRICE}",
        {"prices"},
        ", recorded is ",
    ),
    "a price that is no number": Tampering(
        f"UPDATE price_corrections SET price = 'NaN' WHERE {_PRICE}",
        {"prices"},
        ", recorded is NaN",
    ),
    "that it was made": Tampering(
        f"DELETE FROM price_corrections WHERE {_PRICE}",
        {"remainder", "rollups", "reversals", "corrections", "prices"},
        "does not take up the remainder of the one before",
    ),
    "which it was": Tampering(
        f"UPDATE price_corrections SET number = 7 WHERE {_PRICE}",
        {"corrections", "prices"},
        "and 3 more",
    ),
    "its row": Tampering(
        f"DELETE FROM transactions WHERE {_OWN} AND seq = 6; UPDATE accounts SET seq = seq - 1 WHERE no = :pool",
        {"balance", "chain", "remainder", "rollups", "reversals", "corrections"},
        "balance ",
    ),
    "the day on which it counts": Tampering(
        f"UPDATE transactions SET period_day = period_day + 1 WHERE {_FIRST}",
        {"rollups", "corrections"},
        "rollups differ",
    ),
    "its charge": Tampering(
        f"UPDATE price_corrections SET event_id = gen_random_uuid() WHERE {_PRICE}",
        {"reversals", "corrections", "prices"},
        "taken back is",
    ),
}


@pytest.fixture(scope="module")
async def corrected(api: BillingApi, database: Database) -> Corrected:
    mandate = model = new_mandate()
    usage: dict[str, Any] = {"cost": None, "model": model}
    first = usage_record(mandate, tokens={"input": 1000}, at=AT, **usage)
    second = usage_record(mandate, tokens={"input": 333}, at=AT + timedelta(hours=1), **usage)
    await api.price(model, "0.001")
    await charge(database, first, second)
    for price in ("0.0012345678", "0.0009"):
        await api.price(model, price)
        await rerate(database, of_model(model))
    await charge(database, voided_record(mandate, second.event_id))
    await api.price(f"{model}-{uuid4()}", "0.001")
    async with on_driver(database) as connection:
        row = await connection.fetchrow(
            "SELECT a.mandate_no, a.no FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
            " WHERE m.id = $1 AND a.type = 'MANDATE'",
            mandate,
        )
        other = await connection.fetchval("SELECT id FROM prices WHERE model LIKE $1", f"{model}-%")
    return Corrected(row["mandate_no"], row["no"], other)


@pytest.fixture
async def admin(servers: ServerPair) -> AsyncIterator[asyncpg.Connection]:
    """The database's owner, in a transaction that nobody else ever sees."""
    async with unseen(servers.admin_dsn, schema="billing") as connection:
        yield connection


def _filled(text: str, corrected: Corrected) -> str:
    for name, value in corrected._asdict().items():
        text = text.replace(f":{name}", str(value))
    return text


async def test_books_with_corrections_are_in_order(admin: asyncpg.Connection, corrected: Corrected) -> None:
    checks = {check.name: check for check in await audit(admin)}
    assert {name: check.failing for name, check in checks.items() if check.failing_count} == {}
    assert checks["corrections"].looked_at
    rows = await admin.fetch(
        "SELECT seq, own, amount, balance_after FROM transactions WHERE posted_account_no = $1 ORDER BY seq",
        corrected.pool,
    )
    assert [row["own"] for row in rows] == [False, False, True, True, True, True, True]
    # 1.35 CHF is left, and what the cancelled charge and its corrections left in the remainder.
    assert rows[-1]["balance_after"] == -1_350_001


@pytest.mark.parametrize("what", TAMPERINGS)
async def test_what_somebody_changed_about_a_correction_is_named(
    admin: asyncpg.Connection, corrected: Corrected, what: str
) -> None:
    statements, named, detail = TAMPERINGS[what]
    for statement in _filled(statements, corrected).split(";"):
        assert not (await admin.execute(statement)).endswith(" 0"), statement
    failing = [(check.name, entry["detail"] or "") for check in await audit(admin) for entry in check.failing]
    assert {name for name, _ in failing} == named
    assert any(_filled(detail, corrected) in told for _, told in failing), failing
