"""The audit names what somebody changed behind the platform's back, with the account and what is wrong."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import asyncpg
import pytest

from services.billing.audit import AuditCheck, PublishedBalance, audit
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.payment_events import CreditPayments
from services.billing.credits.post_manual_credit import ManualCredit, post_manual_credit
from services.billing.ledger.domain import BillingModel, hold_id
from services.billing.ledger.holds import NewHold, insert_holds
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.mandates.change_settings import change_settings
from services.billing.mandates.repository import lock_mandate
from services.billing.mandates.switch_model import switch_model
from services.chassis.clock import system_clock
from services.chassis.database import Database, driver_connection
from tests.integration.billing.tamperings import FAR_REACHING, TAMPERINGS
from tests.support.callers import system_admin
from tests.support.charging import charge, charging, received
from tests.support.databases import on_driver, unseen
from tests.support.directory import directory_events
from tests.support.events import new_mandate, usage_record
from tests.support.facts import paid, subscription
from tests.support.invoicing import SPANS
from tests.support.limiting import Limiting
from tests.support.stack import ServerPair
from tests.support.used import sum_all

DAY = datetime(2026, 5, 4, 10, tzinfo=UTC)


@dataclass
class Mandate:
    """A mandate with usage, and the numbers of its accounts: `pool`, `internal`, `user_1`, ..., `payment_provider`."""

    id: str
    no: int
    accounts: dict[str, int]

    async def run(self, admin: asyncpg.Connection, statements: str) -> None:
        """Runs statements in which `:no` is the mandate's number and `:pool` an account's, and checks that each of them
        changed something."""
        for statement in statements.split(";"):
            text = statement
            for name, number in sorted({"no": self.no, **self.accounts}.items(), reverse=True):
                text = text.replace(f":{name}", str(number))
            assert not (await admin.execute(text)).endswith(" 0"), statement


async def _mandate(database: Database, model: BillingModel = "PREPAY_MANDATE") -> Mandate:
    """Charged on two days, with remainders, free and parked events; credited in every way; with a hold of each member,
    of which the first is open and the second captured; with a subscription that has ended."""
    mandate = new_mandate()
    await ApplyDirectory(database, clock=system_clock)(
        directory_events(mandate, {"user-1": ["member"], "user-2": ["member"]}), []
    )
    async with database.transaction() as connection:
        no = await driver_connection(connection).fetchval("SELECT no FROM mandates WHERE id = $1", mandate)
        credit = ManualCredit(None, Decimal(7), "for tests", None)
        await post_manual_credit(connection, no, credit, caller=system_admin(), now=system_clock())
        if model != "PREPAY_MANDATE":
            await switch_model(connection, no, model, spans=SPANS, caller=system_admin(), now=system_clock())
    captured = await _hold(database, no, own=model == "PREPAY_USER")
    for number in range(4):
        user, at = f"user-{1 + number % 2}", DAY + timedelta(days=number // 2)
        hold = captured if number == 1 else None
        await charge(
            database,
            usage_record(mandate, user, amount=f"0.01000{number}123", at=at, hold_id=hold, workflow_id=f"w-{number}"),
            usage_record(
                mandate, user, amount=f"0.00{number}00000007", at=at, workflow_id="w", description=f"Asked by {user}"
            ),
            usage_record(mandate, user, amount="0", at=at),
            usage_record(mandate, user, cost=None, model="unknown", tokens={"input": 5}, at=at),
        )
    identity = uuid4()
    changes = [
        subscription(mandate, identity, 1, "ACTIVE", budget_due=True),
        subscription(mandate, identity, 2, "EXPIRED"),
    ]
    await ApplySubscription(database, clock=system_clock)(changes, [])
    await CreditPayments(database, clock=system_clock)([paid(mandate, 10)], [])
    limiting = Limiting(database, mandate, system_clock())
    await limiting.set(("model", "claude-sonnet-4-5", "month", "5"), ("feature", "unused", "day", "5"))
    return Mandate(mandate, no, await _accounts(database, no))


async def _accounts(database: Database, no: int) -> dict[str, int]:
    async with on_driver(database) as connection:
        rows = await connection.fetch("SELECT type, user_id, no FROM accounts WHERE mandate_no = $1", no)
    names = {"MANDATE": "pool"}
    return {
        (row["user_id"] or names.get(row["type"], row["type"].lower())).replace("-", "_"): row["no"] for row in rows
    }


async def _hold(database: Database, no: int, *, own: bool) -> str:
    """A hold of each member; the id of that of the second."""
    accounts, captured = await _accounts(database, no), hold_id(no, uuid4())
    made = [
        NewHold(
            mandate_no=no,
            id=id_,
            account_no=accounts[user if own else "pool"],
            member_account_no=accounts[user],
            amount=250_000,
            provider="anthropic",
            model=None,
            feature_instance_id=None,
            created_at=system_clock(),
            created_by="service:tests",
            expires_at=system_clock() + timedelta(hours=1),
        )
        for user, id_ in (("user_1", hold_id(no, uuid4())), ("user_2", captured))
    ]
    async with database.transaction() as connection:
        await lock_mandate(connection, no)
        await insert_holds(connection, made)
    return str(captured)


@pytest.fixture(scope="module")
async def pool_mandate(database: Database) -> Mandate:
    return await _mandate(database)


@pytest.fixture(scope="module")
async def member_mandate(database: Database) -> Mandate:
    return await _mandate(database, "PREPAY_USER")


@pytest.fixture
async def admin(servers: ServerPair) -> AsyncIterator[asyncpg.Connection]:
    """The database's owner, in a transaction that nobody else ever sees."""
    async with unseen(servers.admin_dsn, schema="billing") as connection:
        yield connection


async def _failures(
    admin: asyncpg.Connection, published: list[PublishedBalance] | None = None
) -> set[tuple[str, str | None]]:
    """Check and account of everything that fails."""
    return {(check.name, entry["accountId"]) for check in await audit(admin, published) for entry in check.failing}


async def _details(admin: asyncpg.Connection, name: str) -> str:
    (check,) = [check for check in await audit(admin) if check.name == name]
    return "; ".join(entry["detail"] or "" for entry in check.failing)


@pytest.mark.parametrize("model", ["PREPAY_MANDATE", "PREPAY_USER", "UNLIMITED"])
async def test_books_in_order_fail_no_check(admin: asyncpg.Connection, database: Database, model: BillingModel) -> None:
    mandate = await _mandate(database, model)
    await sum_all(database, system_clock())
    assert await _failures(admin) == set()
    looked = {check.name: check.looked_at for check in await audit(admin)}
    # The days of a database that tests share stay open, unless one of them is about that.
    assert {name for name, count in looked.items() if not count} <= {"sealed"}, looked
    assert mandate.accounts.keys() >= {"pool", "internal", "user_1", "user_2", "admin", "payment_provider"}


@pytest.mark.parametrize("what", TAMPERINGS)
async def test_what_somebody_changed_is_named(admin: asyncpg.Connection, pool_mandate: Mandate, what: str) -> None:
    statements, named, detail = TAMPERINGS[what]
    await pool_mandate.run(admin, statements)
    expected = {(check, None if name is None else str(pool_mandate.accounts[name])) for check, name in named}
    failures = await _failures(admin)
    assert failures >= expected if what in FAR_REACHING else failures == expected
    assert detail in await _details(admin, named[0][0])
    found: list[AuditCheck] = await audit(admin)
    mandates = {entry["mandateId"] for check in found for entry in check.failing}
    assert mandates == ({None} if what == "a mandate" else {pool_mandate.id})


async def test_money_on_members_accounts_of_a_pool_mandate_is_named(
    admin: asyncpg.Connection, member_mandate: Mandate
) -> None:
    await member_mandate.run(
        admin,
        "UPDATE mandates SET billing_model = 'UNLIMITED' WHERE no = :no; INSERT INTO audit_log"
        " (mandate_no, actor, action, after, at)"
        " VALUES (:no, 'x', 'model', '{\"billingModel\": \"UNLIMITED\"}', now())",
    )
    accounts = member_mandate.accounts
    assert await _failures(admin) == {
        ("idle", str(accounts["user_1"])),
        ("idle", str(accounts["user_2"])),
        # What is held would have moved with it.
        ("holds", str(accounts["user_1"])),
    }


async def test_an_opening_credit_whose_mark_is_gone_is_named(
    admin: asyncpg.Connection, member_mandate: Mandate
) -> None:
    await member_mandate.run(
        admin, "UPDATE accounts SET opening_credit_at = NULL, opening_credit = NULL WHERE no = :user_2"
    )
    assert await _failures(admin) == {("credits", str(member_mandate.accounts["user_2"]))}
    assert await _details(admin, "credits") == "PROMOTIONAL : recorded 0, rows 10000000"


async def test_a_last_row_that_was_taken_out_of_all_sums_is_named_by_what_was_published(
    admin: asyncpg.Connection, member_mandate: Mandate
) -> None:
    account = member_mandate.accounts["user_1"]
    row = await admin.fetchrow("SELECT seq, balance FROM accounts WHERE no = $1", account)
    published = [PublishedBalance(member_mandate.id, account, row["seq"], row["balance"])]
    assert await _failures(admin, published) == set()
    last = "mandate_no = :no AND posted_account_no = :user_1 AND seq = (SELECT seq FROM accounts WHERE no = :user_1)"
    # The last row is a part of the payment, whose mark goes with it.
    await member_mandate.run(
        admin,
        "UPDATE payment_credits SET amount = amount - (SELECT amount FROM transactions WHERE " + last + ")"
        " WHERE mandate_no = :no;"
        " UPDATE accounts SET balance = balance + (SELECT amount FROM transactions WHERE " + last + "), seq = seq - 1"
        " WHERE no = :payment_provider;"
        " DELETE FROM transactions WHERE " + last + ";"
        " UPDATE accounts SET seq = seq - 1, balance = (SELECT balance_after FROM transactions"
        " WHERE posted_account_no = :user_1 ORDER BY seq DESC LIMIT 1) WHERE no = :user_1",
    )
    assert await _failures(admin) == set()
    assert await _failures(admin, published) == {("published", str(account))}
    (check,) = [check for check in await audit(admin, published) if check.name == "published"]
    assert check.failing[0]["detail"] == f"row {row['seq']} was published with balance {row['balance']} and is gone"


async def test_money_waits_on_the_pool_while_nobody_is_there_to_share_it(
    admin: asyncpg.Connection, database: Database
) -> None:
    mandate = await _mandate(database, "PREPAY_USER")
    gone = directory_events(mandate.id, {"user-1": ["member"], "user-2": ["member"]}, disabled=("user-1", "user-2"))
    await ApplyDirectory(database, clock=system_clock)(gone, [])
    await CreditPayments(database, clock=system_clock)([paid(mandate.id, 10)], [])
    assert await admin.fetchval("SELECT balance FROM accounts WHERE no = $1", mandate.accounts["pool"]) == 10_000_000
    assert await _failures(admin) == set()


async def test_days_stay_right_when_the_time_zone_changes(admin: asyncpg.Connection, database: Database) -> None:
    mandate = new_mandate()
    await ApplyDirectory(database, clock=system_clock)(directory_events(mandate, {"user-1": ["member"]}), [])
    async with on_driver(database) as connection:
        no = await connection.fetchval("SELECT no FROM mandates WHERE id = $1", mandate)

    async def move_to(zone: str, now: datetime) -> None:
        zones = {"timeZone": zone}
        await change_settings(database, mandate, zones, caller=system_admin(), clock=lambda: now, amount_max=Decimal(1))

    async def use(at: datetime, now: datetime) -> None:
        take = charging(database, clock=lambda: now)
        await take(received([usage_record(mandate, at=at)]), [])

    await move_to("Pacific/Pago_Pago", datetime(2026, 5, 10, tzinfo=UTC))
    # July begins there at 11 o'clock. What happens a minute later is on its first day, where it was recorded before the
    # next zone was known, in which it is on the second.
    july = datetime(2026, 7, 1, 11, tzinfo=UTC)
    for hour in range(0, 24 * 60, 5):
        at = datetime(2026, 5, 2, tzinfo=UTC) + timedelta(hours=hour)
        await use(at, july - timedelta(minutes=3))
    await use(july + timedelta(minutes=1), july - timedelta(minutes=3))
    await move_to("Pacific/Kiritimati", july - timedelta(minutes=2))
    await use(july + timedelta(minutes=1), july + timedelta(minutes=1))
    days = await admin.fetch(
        "SELECT period_day FROM transactions WHERE mandate_no = $1 AND occurred_at = $2 ORDER BY seq",
        no,
        july + timedelta(minutes=1),
    )
    assert [row["period_day"].day for row in days] == [1, 2]
    assert await _failures(admin) == set()
