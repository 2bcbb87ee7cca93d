"""The audit names what somebody changed about an invoice: lines, sums, numbers, payments, or what it should ask for."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg
import pytest

from services.billing.audit import audit
from services.chassis.database import Database
from tests.support.databases import unseen
from tests.support.invoicing import Postpaid
from tests.support.stack import ServerPair

JULY = datetime(2026, 6, 30, 22, tzinfo=UTC)


class Tampering(NamedTuple):
    """A statement (`:no` is the mandate's number), and what the check then says."""

    statement: str
    detail: str


_LINES = "FROM invoices i WHERE i.id = l.invoice_id AND i.mandate_no = :no"

TAMPERINGS = {
    "the cost of a line": Tampering(f"UPDATE invoice_lines l SET cost = cost + 1 {_LINES} AND l.position = 1", " has "),
    "the amount of a line": Tampering(
        f"UPDATE invoice_lines l SET amount = amount + 10000 {_LINES} AND l.position = 1", "does not add up"
    ),
    "the net amount of a line": Tampering(
        f"UPDATE invoice_lines l SET net = l.net + 10000 {_LINES} AND l.position = 1", "does not add up"
    ),
    "what a line is for": Tampering(
        f"UPDATE invoice_lines l SET model = 'x' {_LINES} AND l.position = 1", " of 12004000"
    ),
    "the month of a line": Tampering(
        f"UPDATE invoice_lines l SET first_day = first_day - 40 {_LINES} AND l.position = 1", " has "
    ),
    "a line": Tampering(
        "DELETE FROM invoice_lines l USING invoices i WHERE i.id = l.invoice_id"
        " AND i.mandate_no = :no AND l.position = 1",
        " has 0 of ",
    ),
    "the total": Tampering(
        "UPDATE invoices SET total = total + 10000, net = net + 10000 WHERE mandate_no = :no", "does not add up"
    ),
    "what rounding left over": Tampering(
        "UPDATE invoices SET carry_after = carry_after + 1 WHERE mandate_no = :no", "does not add up"
    ),
    "up to which row it is": Tampering("UPDATE invoices SET up_to_seq = up_to_seq - 2 WHERE mandate_no = :no", " has "),
    "its number": Tampering(
        "UPDATE invoices SET series_no = series_no + 100000, number = 'x' WHERE mandate_no = :no", "of its year"
    ),
    "a payment": Tampering(
        "UPDATE invoice_payments SET amount = amount + 1 WHERE mandate_no = :no", "of an invoice was not credited"
    ),
    "when it was in the model": Tampering(
        "DELETE FROM postpay_spans WHERE mandate_no = :no", "in CREDIT_POSTPAY and nothing is asked for"
    ),
}


@pytest.fixture(scope="module")
async def number(database: Database) -> int:
    """A mandate with a paid invoice and usage that is on none yet."""
    mandate = await Postpaid(database, JULY).begin()
    await mandate.use("5", model="other")
    await mandate.use("12.004")
    await mandate.reverse(await mandate.use("1"))
    mandate.now = JULY + timedelta(days=31, hours=2)
    await mandate.use("3")
    await mandate.close(2026, 7)
    (invoice,) = await mandate.invoices()
    await mandate.pay(invoice["id"], "17")
    return await mandate.no()


@pytest.fixture
async def admin(servers: ServerPair) -> AsyncIterator[asyncpg.Connection]:
    async with unseen(servers.admin_dsn, schema="billing") as connection:
        yield connection


async def failing(admin: asyncpg.Connection) -> dict[str, str]:
    """What each check that fails says."""
    return {check.name: check.failing[0]["detail"] or "" for check in await audit(admin) if check.failing}


async def test_invoices_in_order_fail_nothing(admin: asyncpg.Connection, number: int) -> None:
    assert await failing(admin) == {}
    (check,) = [check for check in await audit(admin) if check.name == "invoices"]
    assert check.looked_at > 0


async def test_one_of_the_old_year_after_one_of_the_new_year_fails_nothing(
    admin: asyncpg.Connection, database: Database
) -> None:
    """Who waited for the mandate at the turn of the year, or whose clock is behind, still counts in the old year."""
    turn = datetime(2026, 12, 31, 23, tzinfo=UTC)
    mandate = await Postpaid(database, datetime(2026, 11, 20, tzinfo=UTC)).begin(timeZone="Pacific/Kiritimati")
    mandate.now = turn - timedelta(days=2)
    await mandate.use("5")
    mandate.now = turn
    await mandate.close(2026, 12)
    mandate.now = turn - timedelta(microseconds=1)
    await mandate.use("7")
    await mandate.switch("PREPAY_MANDATE")
    found = {each["cause"]: (each["number"][:4], each["total"]["amount"]) for each in await mandate.invoices()}
    assert found == {"MONTH": ("2027", "5.000000"), "SWITCH": ("2026", "7.000000")}
    assert await failing(admin) == {}


@pytest.mark.parametrize("what", TAMPERINGS)
async def test_what_somebody_changed_is_named(admin: asyncpg.Connection, number: int, what: str) -> None:
    statement, detail = TAMPERINGS[what]
    done = await admin.execute(statement.replace(":no", str(number)))
    assert not done.endswith(" 0"), done
    found = await failing(admin)
    assert found.keys() == {"invoices"}
    assert detail in found["invoices"]
