"""Days of the ledger are sealed once nobody can write into them; whatever is changed afterwards is named by its day."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy.dialects import postgresql

from deploy.postgres.bootstrap import SERVICES, RolePasswords, bootstrap, database_dsn
from services.billing.audit import audit
from services.billing.audit import sealed as sealed_check
from services.billing.audit.sealed import check_sealed_days
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.post_manual_credit import ManualCredit, post_manual_credit
from services.billing.ledger import day_digests, sealed_days
from services.billing.ledger.seal_days import SealDays
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.tables import transactions
from services.chassis.database import Database, driver_connection, is_transient
from services.chassis.faults import FaultPoints
from services.chassis.migrations import migrate
from tests.support.callers import system_admin
from tests.support.charging import charging, received
from tests.support.databases import connected, on_driver, opened, unseen
from tests.support.directory import directory_events
from tests.support.events import RawRecord, new_mandate, usage_record, voided_record
from tests.support.facts import subscription
from tests.support.stack import ROOT, make_postgres

FOLDER = ROOT / "services" / "billing" / "migrations"
AFTER_S = 900
FIRST_DAY = date(2026, 5, 4)
# The third has no rows; the fourth is the last that is sealed.
DAYS = [FIRST_DAY + timedelta(days=number) for number in range(4)]
NOON = timedelta(hours=12)


class Ledger(NamedTuple):
    """An empty ledger on a PostgreSQL of its own, whose days no other test needs open."""

    database: Database
    admin_dsn: str
    mandate: str
    no: int

    async def charge(self, at: datetime, *records: RawRecord) -> None:
        """Charges a batch at a time."""
        await charging(self.database, clock=lambda: at)(received(records, now=at), [])

    async def seal(self, at: datetime, faults: FaultPoints | None = None) -> int:
        """Runs the job at a time, as a worker that has just begun."""
        return await SealDays(self.database, after_s=AFTER_S, clock=lambda: at, faults=faults or FaultPoints(None))()

    async def fetch(self, statement: str) -> list[Any]:
        """What a statement gives, of each row the first value or the whole."""
        async with on_driver(self.database) as connection:
            rows = await connection.fetch(statement)
            return [row[0] if len(row) == 1 else tuple(row) for row in rows]

    async def failing(self) -> list[str]:
        """What the audit finds, in all of its checks."""
        async with connected(self.admin_dsn, schema="billing") as connection:
            return [str(entry["detail"]) for check in await audit(connection) for entry in check.failing]


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + NOON


def begin(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, str]]:
    """The addresses of a migrated database for the application and for its administrator."""
    passwords = {name: RolePasswords(uuid4().hex, uuid4().hex) for name in SERVICES}
    with make_postgres(tmp_path_factory.mktemp("postgres")) as running:
        await bootstrap(running.admin_dsn, passwords)
        owner_dsn = database_dsn(running.admin_dsn, "billing_owner", passwords["billing"].owner)
        await asyncio.to_thread(migrate, owner_dsn, schema="billing", folder=FOLDER)
        admin_dsn = running.admin_dsn.rpartition("/")[0] + "/rappen"
        yield database_dsn(running.admin_dsn, "billing_app", passwords["billing"].app), admin_dsn


@pytest.fixture
async def ledger(server: tuple[str, str]) -> AsyncIterator[Ledger]:
    """The ledger without a row."""
    app_dsn, admin_dsn = server
    async with connected(admin_dsn, schema="billing") as connection:
        await connection.execute(
            "TRUNCATE closed_days, sealed_days, transactions, workflow_blocks, rollups, accounts, grants, mandates,"
            " cancellations, subscription_budgets, budget_refunds, budget_movements, mandate_subscriptions, audit_log,"
            " unposted_events, unpublished_balances, dimensions, usage_descriptions"
        )
    mandate = new_mandate()
    async with opened(app_dsn, pool_size=6) as database:
        at = noon(FIRST_DAY)
        members = {"user-1": ["member"], "user-2": ["member"]}
        await ApplyDirectory(database, clock=lambda: at)(directory_events(mandate, members), [])
        async with on_driver(database) as connection:
            no = await connection.fetchval("SELECT no FROM mandates WHERE id = $1", mandate)
        yield Ledger(database, admin_dsn, mandate, no)


async def _credit(ledger: Ledger, connection: Any, at: datetime, amount: int = 7) -> None:
    credit = ManualCredit(None, Decimal(amount), "for tests", None)
    await post_manual_credit(connection, ledger.no, credit, caller=system_admin(), now=at)


@pytest.fixture
async def sealed(ledger: Ledger) -> Ledger:
    """Rows of every kind on the first, second and fourth day, sealed."""
    for day in (DAYS[0], DAYS[1], DAYS[3]):
        at = noon(day)
        everything = usage_record(
            ledger.mandate,
            amount="0.0123456789",
            at=at,
            description="Zürich 🧾, 7:x,",
            workflow_id="w-1",
            feature_instance_id="i-1",
            processing_time_ms=5,
            bytes_sent=6,
            bytes_received=7,
            error_count=8,
            tokens={"input": 9, "output": 10},
        )
        cancelled = usage_record(ledger.mandate, "user-2", amount="1", at=at)
        await ledger.charge(at, everything, cancelled, voided_record(ledger.mandate, cancelled.event_id, at=at))
        async with ledger.database.transaction() as connection:
            await _credit(ledger, connection, at)
    # A grant on the second day.
    budget = subscription(ledger.mandate, uuid4(), 1, "ACTIVE", budget_due=True)
    await ApplySubscription(ledger.database, clock=lambda: noon(DAYS[1]))([budget], [])
    # The last moment of a day, and the first of the next.
    end = begin(DAYS[1]) - timedelta(microseconds=1)
    await ledger.charge(end, usage_record(ledger.mandate, amount="1", at=end))
    start = begin(DAYS[1])
    await ledger.charge(start, usage_record(ledger.mandate, amount="1", at=start))
    assert await ledger.seal(begin(DAYS[3] + timedelta(days=1)) + timedelta(seconds=AFTER_S)) == 3
    return ledger


def _text(name: str, value: Any) -> str:
    """A value of a column as docs/sealed-days.md says."""
    if value is None:
        return "-,"
    if isinstance(value, datetime):
        text = str((value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
    elif isinstance(value, date):
        text = str((value - date(1970, 1, 1)).days)
    elif isinstance(value, bytes):
        text = value.hex()
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = str(value)
    return f"{len(text.encode())}:{text},"


async def test_the_digests_are_those_that_anybody_computes_from_the_documented_form(sealed: Ledger) -> None:
    documented = (ROOT / "docs" / "sealed-days.md").read_text()
    columns = [line.split("`")[1] for line in documented.splitlines() if line.startswith("| `")]
    async with on_driver(sealed.database) as connection:
        rows = await connection.fetch("SELECT * FROM transactions")
        seals = await connection.fetch("SELECT * FROM sealed_days ORDER BY day")
    assert sorted(columns) == sorted(rows[0].keys())
    previous = bytes(32)
    for seal in seals:
        of_day = [row for row in rows if row["recorded_at"].date() == seal["day"]]
        of_day.sort(key=lambda row: (row["mandate_no"], row["event_id"].bytes, row["own"]))
        heading = f"rappen.sealed-day.v1\n{seal['day']:%Y-%m-%d}\n{previous.hex()}\n".encode()
        digests = [sha256("".join(_text(name, row[name]) for name in columns).encode()).digest() for row in of_day]
        assert seal["digest"] == sha256(heading + b"".join(digests)).digest()
        assert (seal["form"], seal["rows"], seal["previous_digest"]) == (1, len(of_day), previous)
        previous = seal["digest"]
    assert [seal["day"] for seal in seals] == [DAYS[0], DAYS[1], DAYS[3]]
    assert [seal["rows"] for seal in seals] == [5, 6, 4]
    assert await sealed.failing() == []


def test_the_form_of_now_has_every_column_of_the_ledger() -> None:
    """A new column of the ledger needs a new form, in which days are sealed from then on."""
    assert set(day_digests.FORMS[day_digests.FORM]) == set(transactions.c.keys())


_POSTGRES = postgresql.dialect()  # type: ignore[no-untyped-call]
# Another value of a column of this type.
_OTHER = {
    "INTEGER": "coalesce({0}, 0) + 1000",
    "BIGINT": "coalesce({0}, 0) + 1000",
    "TEXT": "coalesce({0}, '') || 'x'",
    "UUID": "gen_random_uuid()",
    "BOOLEAN": "NOT {0}",
    "TIMESTAMP": "{0} + interval '1 microsecond'",
    "DATE": "{0} + 1",
    "BYTEA": "{0} || '\\x00'",
}


@pytest.mark.parametrize("to_null", [False, True])
async def test_a_change_of_any_column_of_a_row_names_its_day(sealed: Ledger, to_null: bool) -> None:
    """Of the row in which every column has a value; and from a value to none."""
    tried = 0
    for column in transactions.c:
        other = "NULL" if to_null else _OTHER[str(column.type.compile(dialect=_POSTGRES)).split()[0].split("(")[0]]
        if to_null and not column.nullable:
            continue
        async with unseen(sealed.admin_dsn, schema="billing") as admin:
            done = await admin.execute(
                f"UPDATE transactions SET {column.name} = {other.format(column.name)} WHERE ctid = (SELECT ctid FROM"
                f" transactions WHERE recorded_at::date = '{DAYS[1]}' AND {column.name} IS NOT NULL LIMIT 1)"
            )
            assert done == "UPDATE 1", column.name
            assert (await check_sealed_days(admin)).failing == [
                f"day {DAYS[1]} has other rows than the 6 that were sealed"
            ], column.name
            tried += 1
    assert tried == (sum(1 for column in transactions.c if column.nullable) if to_null else len(transactions.c))


_MOVED = "UPDATE transactions SET recorded_at ="


@pytest.mark.parametrize(
    ("statement", "days"),
    [
        ("DELETE FROM transactions WHERE recorded_at = '{1} 12:00Z' AND own", ["{1} was sealed with 6 rows and has 3"]),
        ("DELETE FROM transactions WHERE recorded_at::date = '{1}'", ["{1} was sealed with 6 rows and has 0"]),
        (
            f"{_MOVED} recorded_at + interval '1 day' WHERE recorded_at::date = '{{0}}' AND own",
            ["{0} was sealed with 5 rows and has 3", "{1} was sealed with 6 rows and has 8"],
        ),
        (
            f"{_MOVED} recorded_at + interval '99 days' WHERE recorded_at::date = '{{3}}'",
            ["{3} was sealed with 4 rows and has 0"],
        ),
        (
            f"{_MOVED} recorded_at + interval '1 day' WHERE recorded_at::date = '{{1}}' AND own",
            ["{1} was sealed with 6 rows and has 3", "{2} has 3 rows and is not sealed"],
        ),
        (
            f"{_MOVED} '-infinity' WHERE recorded_at::date = '{{3}}' AND own",
            ["-infinity has 2 rows and is not sealed", "{3} was sealed with 4 rows and has 2"],
        ),
        (
            f"{_MOVED} 'infinity', period_day = 'infinity' WHERE recorded_at::date = '{{3}}' AND own",
            ["{3} was sealed with 4 rows and has 2"],
        ),
        (
            f"{_MOVED} recorded_at, period_day = '-infinity' WHERE recorded_at::date = '{{3}}' AND own",
            ["{3} has other rows than the 4 that were sealed"],
        ),
        (
            "UPDATE sealed_days SET digest = sha256('x') WHERE day = '{0}'",
            [
                "{0} has other rows than the 5 that were sealed",
                "{1} does not follow from the digest of the day that was sealed before",
            ],
        ),
        (
            "UPDATE sealed_days SET previous_digest = sha256('x') WHERE day = '{0}'",
            ["{0} does not follow from the digest of the day that was sealed before"],
        ),
        ("UPDATE sealed_days SET rows = 6 WHERE day = '{3}'", ["{3} was sealed with 6 rows and has 4"]),
        ("UPDATE sealed_days SET form = 99 WHERE day = '{1}'", ["{1} is sealed in form 99, which is not known"]),
        (
            "DELETE FROM sealed_days WHERE day = '{1}'",
            [
                "{1} has 6 rows and is not sealed",
                "{3} does not follow from the digest of the day that was sealed before",
            ],
        ),
    ],
)
async def test_what_is_done_to_rows_and_seals_is_named(sealed: Ledger, statement: str, days: list[str]) -> None:
    async with unseen(sealed.admin_dsn, schema="billing") as admin:
        assert not (await admin.execute(statement.format(*DAYS))).endswith(" 0")
        assert (await check_sealed_days(admin)).failing == [f"day {each.format(*DAYS)}" for each in days]


@pytest.mark.parametrize("number", [1, 2])
async def test_a_row_that_is_put_into_a_sealed_day_is_named(sealed: Ledger, number: int) -> None:
    """Also into a day that had none."""
    async with unseen(sealed.admin_dsn, schema="billing") as admin:
        await admin.execute(
            "INSERT INTO transactions SELECT (jsonb_populate_record(t, jsonb_build_object("
            f"'event_id', gen_random_uuid(), 'seq', 999, 'recorded_at', '{DAYS[number]}T10:00:00Z'))).*"
            " FROM transactions t LIMIT 1"
        )
        (fault,) = (await check_sealed_days(admin)).failing
        assert fault == f"day {DAYS[number]} " + (
            "was sealed with 6 rows and has 7" if number == 1 else "has 1 rows and is not sealed"
        )


async def test_the_application_can_neither_change_nor_take_away_a_seal(sealed: Ledger) -> None:
    for statement in ("UPDATE {} SET day = day", "DELETE FROM {}", "TRUNCATE {}"):
        for table in ("sealed_days", "closed_days"):
            async with on_driver(sealed.database) as connection:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement.format(table))


async def test_what_comes_too_late_for_its_day_is_tried_again_and_stands_on_the_next(sealed: Ledger) -> None:
    last, next_day = noon(DAYS[3]), noon(DAYS[3] + timedelta(days=1))
    before = len(await sealed.fetch("SELECT event_id FROM transactions"))
    times = iter([noon(DAYS[2]), last, next_day])
    charge = charging(sealed.database, clock=lambda: next(times))
    batch = received([usage_record(sealed.mandate, amount="1", at=last)], now=last)
    for _ in range(2):
        with pytest.raises(asyncpg.SerializationError, match=r"nothing is recorded on 2026-05-0\d any more") as refused:
            await charge(batch, [])
        # So the consumer gives the same batch again, and nobody's event is refused for good.
        assert is_transient(refused.value)
    assert len(await sealed.fetch("SELECT event_id FROM transactions")) == before
    await charge(batch, [])
    assert await sealed.fetch("SELECT max(recorded_at) FROM transactions") == [next_day]
    assert await sealed.failing() == []


async def test_a_day_is_sealed_when_the_last_transaction_that_found_it_open_is_over(ledger: Ledger) -> None:
    """One that is slow around midnight, and with it the row that it has not committed yet."""
    late, after = begin(DAYS[1]) - timedelta(seconds=1), begin(DAYS[1]) + timedelta(seconds=AFTER_S)
    async with ledger.database.transaction() as slow:
        await _credit(ledger, slow, late)
        assert await ledger.seal(after) == 0
        # Nobody waits: others are charged on the next day meanwhile.
        await ledger.charge(after, usage_record(ledger.mandate + "x", amount="1", at=after))
        assert await ledger.fetch("SELECT day FROM sealed_days") == []
    assert await ledger.seal(after) == 1
    assert await ledger.fetch("SELECT day, rows FROM sealed_days") == [(DAYS[0], 1)]
    assert await ledger.failing() == []


async def test_a_transaction_that_had_not_asked_when_its_day_was_closed_is_refused(ledger: Ledger) -> None:
    late, after = begin(DAYS[1]) - timedelta(seconds=1), begin(DAYS[1]) + timedelta(seconds=AFTER_S)

    async def slow() -> None:
        async with ledger.database.transaction() as connection:
            # It has begun, and has read; it has no number yet, so nobody could wait for it.
            await driver_connection(connection).fetchval("SELECT count(*) FROM transactions")
            assert await ledger.seal(after) == 1
            await _credit(ledger, connection, late)

    with pytest.raises(asyncpg.SerializationError):
        await slow()
    assert await ledger.fetch("SELECT day, rows FROM sealed_days") == [(DAYS[0], 0)]
    assert await ledger.failing() == []


async def test_who_asks_has_a_number_before_the_answer(ledger: Ledger) -> None:
    """So that whoever was told that the day is open is waited for, even if nothing was written yet."""
    after = begin(DAYS[1]) + timedelta(seconds=AFTER_S)
    async with ledger.database.transaction() as asking:
        assert await driver_connection(asking).fetchval("SELECT is_day_open($1)", DAYS[0])
        assert await ledger.seal(after) == 0
        assert not await driver_connection(asking).fetchval("SELECT is_day_open($1)", DAYS[0])
    assert await ledger.seal(after) == 1


async def test_who_asks_while_a_day_is_being_closed_is_waited_for(ledger: Ledger) -> None:
    """The number of the one that asks is then above that of the transaction that closes the day."""
    after = begin(DAYS[1]) + timedelta(seconds=AFTER_S)
    async with connected(ledger.admin_dsn, schema="billing") as closing, connected(ledger.admin_dsn) as asking:
        await closing.execute("BEGIN")
        await closing.execute("INSERT INTO closed_days VALUES ($1, now())", DAYS[0])
        await asking.execute("BEGIN")
        assert await asking.fetchval("SELECT billing.is_day_open($1)", DAYS[0])
        await closing.execute("COMMIT")
        assert await ledger.seal(after) == 0
        await asking.execute("COMMIT")
    assert await ledger.seal(after) == 1


async def test_before_its_time_no_day_is_closed(ledger: Ledger) -> None:
    await ledger.charge(noon(DAYS[0]), usage_record(ledger.mandate, amount="1", at=noon(DAYS[0])))
    too_early = begin(DAYS[1]) + timedelta(seconds=AFTER_S - 1)
    assert await ledger.seal(too_early) == 1
    assert await ledger.fetch("SELECT day, rows FROM sealed_days") == [(DAYS[0] - timedelta(days=1), 0)]
    await ledger.charge(noon(DAYS[0]), usage_record(ledger.mandate, amount="1", at=noon(DAYS[0])))
    assert await ledger.seal(too_early) == 0
    assert await ledger.seal(too_early + timedelta(seconds=1)) == 1
    assert await ledger.seal(too_early + timedelta(seconds=1)) == 0
    assert (await ledger.fetch("SELECT day, rows FROM sealed_days ORDER BY day"))[1:] == [(DAYS[0], 2)]


async def test_several_workers_at_once_seal_each_day_once(ledger: Ledger) -> None:
    days = [FIRST_DAY + timedelta(days=number) for number in range(12)]
    for day in days:
        await ledger.charge(noon(day), *(usage_record(ledger.mandate, amount="1", at=noon(day)) for _ in range(20)))
    after, sealed = noon(days[-1] + timedelta(days=1)), 0
    while len(await ledger.fetch("SELECT day FROM sealed_days")) < len(days):
        sealed += sum(await asyncio.gather(*(ledger.seal(after) for _ in range(4))))
    assert sealed == len(days)
    assert await ledger.fetch("SELECT day FROM sealed_days ORDER BY day") == days
    assert await ledger.failing() == []


class _Crash(Exception):  # noqa: N818 - it stands for a crash, not for an error.
    """The process would have died here."""


class _CrashPoint(FaultPoints):
    """Raises at the second day, because the test lives in the same process."""

    def __init__(self) -> None:
        super().__init__(None)
        self.reached: list[str] = []

    def reach(self, point: str) -> None:
        self.reached.append(point)
        if len(self.reached) == 2:
            raise _Crash


async def test_what_a_crash_leaves_is_continued(ledger: Ledger) -> None:
    for day in DAYS:
        await ledger.charge(noon(day), usage_record(ledger.mandate, amount="1", at=noon(day)))
    after, crash = noon(DAYS[3] + timedelta(days=1)), _CrashPoint()
    with pytest.raises(_Crash):
        await ledger.seal(after, crash)
    assert crash.reached == ["seal_before_commit"] * 2
    assert await ledger.fetch("SELECT day FROM sealed_days") == DAYS[:1]
    assert await ledger.failing() == []
    assert await ledger.seal(after) == 3
    assert await ledger.fetch("SELECT day FROM sealed_days ORDER BY day") == DAYS
    assert await ledger.failing() == []


async def test_a_clock_that_moves_by_years_leaves_days_without_rows_out(ledger: Ledger) -> None:
    await ledger.charge(noon(DAYS[0]), usage_record(ledger.mandate, amount="1", at=noon(DAYS[0])))
    later = noon(DAYS[0]) + timedelta(days=10_000)
    assert await ledger.seal(later) == 2
    assert await ledger.fetch("SELECT day, rows FROM sealed_days ORDER BY day") == [
        (DAYS[0], 1),
        ((later - timedelta(days=1)).date(), 0),
    ]
    async with unseen(ledger.admin_dsn, schema="billing") as admin:
        await admin.execute("UPDATE transactions SET recorded_at = recorded_at + interval '500 days'")
        assert len((await check_sealed_days(admin)).failing) == 2
    assert await ledger.failing() == []


async def test_a_day_is_looked_at_in_the_form_in_which_it_was_sealed(
    sealed: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a release that adds a column to the ledger."""
    names: Mapping[str, Any] = day_digests.FORMS[1]
    newer = {1: names, 2: {name: kind for name, kind in names.items() if name != "description"}}
    for module in (day_digests, sealed_days, sealed_check):
        monkeypatch.setattr(module, "FORMS", newer)
    monkeypatch.setattr(sealed_days, "FORM", 2)
    day = DAYS[3] + timedelta(days=1)
    await sealed.charge(noon(day), usage_record(sealed.mandate, amount="1", at=noon(day)))
    assert await sealed.seal(noon(day + timedelta(days=1))) == 1
    assert (await sealed.fetch("SELECT form FROM sealed_days ORDER BY day")) == [1, 1, 1, 2]
    assert await sealed.failing() == []
    async with unseen(sealed.admin_dsn, schema="billing") as admin:
        await admin.execute("UPDATE transactions SET description = 'x'")
        # What the newer form leaves out it does not see; the days of the older one do.
        assert [fault.split()[1] for fault in (await check_sealed_days(admin)).failing] == [
            str(each) for each in (DAYS[0], DAYS[1], DAYS[3])
        ]
