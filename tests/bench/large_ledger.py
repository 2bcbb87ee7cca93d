"""A ledger of five million rows, as a platform has it after a year, upon which lists, statistics and invoices are
measured.

Each mandate is opened and used by the charge itself, a little. What it has more are copies of those rows, with ids,
times, numbers and balances of their own, written by COPY in the order of their times, so that the rows of mandates lie
among each other as in a ledger that grew. Accounts, rollups and blocks of workflows follow from the rows. The audit of
the whole says whether such a ledger could have been charged row by row.

A workflow has ten rows of a mandate, one after the other, so a search has a tenth as many texts to look through as
there are rows. Each charge is described by what it was for, as most publishers do it.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from io import BytesIO
from struct import Struct
from typing import Any, Final, NamedTuple

import asyncpg

from rappen_contracts.types import TIME_START, since_epoch
from services.billing.ledger.calendars import DEFAULT_ZONE, Calendar
from services.billing.ledger.merge_workflow_blocks import MergeWorkflowBlocks
from services.billing.ledger.rows import COLUMNS, copied
from services.billing.ledger.workflow_blocks import SPAN, workflows_text
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.statistics.keep_sums import KeepSums
from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from tests.support.charging import charging, received
from tests.support.databases import connected
from tests.support.directory import directory_events
from tests.support.events import RawRecord, usage_record
from tests.support.invoicing import Postpaid
from tests.support.stack import ServerPair

__all__ = ["DAYS", "LARGE", "MEMBERS", "MODELS", "POSTPAID", "TENTH", "LargeLedger", "Size", "month_before"]

LARGE, TENTH, POSTPAID = "large", "tenth", "postpaid"
OTHERS = 100
MEMBERS, OTHERS_MEMBERS = 1_000, 20
MODELS = [("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-5"), ("mistral", "large-3"), ("google", "gemini-3")]
FEATURES = ["chat", "code", "search"]
INSTANCES = [f"instance-{number}" for number in range(10)]
# Days of the ledger, the last of which is yesterday.
DAYS = 360
CHARGED_AT_ONCE = 2_000
CALLS_OF_WORKFLOW = 10
# So many copies a charge may have.
COPIES = 40

# What differs between copies: the columns before the digest, each with its length, as `ledger/rows.py` writes them, and
# the workflow, which stands so many fields behind them.
_OWN: Final = Struct("!h ii i16s iq iq iq iq iq iq iq ii".replace(" ", ""))
_OWN_FIELDS: Final = 10
_FIELDS_BEFORE_WORKFLOW: Final = COLUMNS.index("workflow_id") - _OWN_FIELDS
_SIGNATURE_BYTES: Final = 19
_FIELDS, _LENGTH, _DIMENSION = Struct("!h"), Struct("!i"), Struct("!ii")
_DAY_MICROS: Final = 86_400 * 10**6
_UNIX_MS: Final = int(TIME_START.timestamp()) * 1_000
LOADING_S: Final = 3_600


@dataclass(frozen=True, slots=True)
class Size:
    """Rows of the ledger, of the mandate with many, which another has a tenth of, and of the one that is invoiced."""

    rows: int
    large: int
    postpaid: int


class _Charge(NamedTuple):
    """A charge: its member's account, amount and dimension, its bytes from the digest up to the workflow, and after
    that."""

    member_no: int
    amount: int
    dimension_no: int
    before_workflow: bytes
    after_workflow: bytes


@dataclass(slots=True)
class _Mandate:
    """A mandate with so many rows on the days of the ledger from one up to another, and what is copied of it."""

    id: str
    rows: int
    members: int
    first: date
    until: date
    no: int = 0
    pool_no: int = 0
    seq: int = 0
    balance: int = 0
    charges: list["_Charge"] = field(default_factory=list)
    # Those of copies that are in no block yet, and how many copies that is; and blocks that are not yet written.
    workflows: list[str] = field(default_factory=list)
    calls: int = 0
    blocks: list[tuple[Any, ...]] = field(default_factory=list)

    def copies_on(self, day: date) -> int:
        """How many copies fall on a day, the same number on each."""
        if not self.first < day < self.until:
            return 0
        days, number = (self.until - self.first).days - 1, (day - self.first).days - 1
        copies = self.rows - len(self.charges)
        return copies * (number + 1) // days - copies * number // days

    def end_block(self) -> None:
        """Puts the workflows of copies that are in none yet into a block."""
        if self.workflows:
            first = self.seq - self.calls + 1
            self.blocks.append((self.no, self.pool_no, first, self.seq, workflows_text(self.workflows)))
            self.workflows.clear()
            self.calls = 0


def month_before(day: date) -> date:
    """The first day of the month before."""
    return (day.replace(day=1) - timedelta(days=1)).replace(day=1)


class LargeLedger:
    """Fills the empty ledger of a stack."""

    def __init__(self, servers: ServerPair, database: Database, size: Size, *, now: datetime) -> None:
        self._dsn = servers.dsn("billing", owner=True)
        self._database = database
        self._chance = random.Random(size.rows)
        self._calendar = Calendar(DEFAULT_ZONE)
        # Cost (micro-CHF) and count of the copies of a day.
        self._rollups: defaultdict[tuple[int, int, date, int], list[int]] = defaultdict(lambda: [0, 0])
        today = now.date()
        first, month = today - timedelta(days=DAYS), month_before(today)
        tenth = size.large // 10
        other = (size.rows - size.large - tenth - size.postpaid) // OTHERS
        self._days = [first + timedelta(days=number) for number in range(DAYS)]
        self._mandates = [
            _Mandate(LARGE, size.large, MEMBERS, first, today),
            _Mandate(TENTH, tenth, MEMBERS, first, today),
            # These days are of the month in every zone.
            _Mandate(POSTPAID, size.postpaid, MEMBERS, month + timedelta(days=1), month + timedelta(days=27)),
            *(_Mandate(f"other-{number}", other, OTHERS_MEMBERS, first, today) for number in range(OTHERS)),
        ]

    async def fill(self) -> None:
        """Charges, and copies of them."""
        for mandate in self._mandates:
            await self._open(mandate)
        async with connected(self._dsn, schema="billing") as connection:
            for mandate in self._mandates:
                await _read_charges(connection, mandate)
            for day in self._days:
                await _copy(connection, "transactions", COLUMNS, source=memoryview(copied(self._copies(day))))
                await self._write_rollups(connection, before=day + timedelta(days=1))
                await self._write_blocks(connection)
            await self._write_rollups(connection, before=date.max)
            moved = [(each.balance, each.seq, each.no, each.pool_no) for each in self._mandates]
            await connection.executemany(
                "UPDATE accounts SET balance = $1, seq = $2 WHERE mandate_no = $3 AND no = $4", moved
            )
        keep = KeepSums(self._database, clock=system_clock)
        while await keep():
            pass
        merge = MergeWorkflowBlocks(self._database, faults=FaultPoints(None))
        while await merge():
            pass
        async with connected(self._dsn, schema="billing") as connection:
            await connection.execute("VACUUM (ANALYZE)", timeout=LOADING_S)

    async def _open(self, mandate: _Mandate) -> None:
        """A mandate with members, and charges on the morning of its first day, at least one of each member."""
        begun = datetime.combine(mandate.first, time(6), UTC)

        def clock() -> datetime:
            return begun

        if mandate.id == POSTPAID:
            await Postpaid(self._database, begun, id=POSTPAID).begin()
        users = [f"{mandate.id}-u{number}" for number in range(mandate.members)]
        people = {f"{mandate.id}-boss": ["admin"], **{user: ["member"] for user in users}}
        apply = ApplyDirectory(self._database, clock=clock)
        await apply(directory_events(mandate.id, people, label=mandate.id.title()), [])
        count = max(mandate.members, mandate.rows // COPIES)
        handler = charging(self._database, clock=clock)
        for start in range(0, count, CHARGED_AT_ONCE):
            numbers = range(start, min(count, start + CHARGED_AT_ONCE))
            records = [self._usage(mandate.id, users[number % len(users)], begun) for number in numbers]
            await handler(received(records, now=begun), [])

    def _usage(self, mandate_id: str, user_id: str, begun: datetime) -> RawRecord:
        chance = self._chance
        (provider, model), feature = chance.choice(MODELS), chance.choice(FEATURES)
        return usage_record(
            mandate_id,
            user_id,
            # An even number of millionths, which with the markup of a half is a whole one.
            amount=f"0.{2 * chance.randrange(1, 250_000):06}",
            at=begun - timedelta(microseconds=chance.randrange(10**9)),
            provider=provider,
            model=model,
            feature_code=feature,
            feature_instance_id=chance.choice(INSTANCES),
            tokens={"input": chance.randrange(10_000), "output": chance.randrange(2_000)},
            processing_time_ms=chance.randrange(10_000),
            workflow_id=_workflow(chance),
            description=f"{feature} with {model}",
        )

    def _copies(self, day: date) -> list[bytes]:
        """The rows of a day (UTC), in the order of their times."""
        chance, rows = self._chance, list[bytes]()
        picked = [
            (mandate, charge)
            for mandate in self._mandates
            for charge in chance.choices(mandate.charges, k=mandate.copies_on(day))
        ]
        chance.shuffle(picked)
        begin = since_epoch(datetime.combine(day, time(), UTC))
        ends = since_epoch(self._calendar.begin(day + timedelta(days=1)))
        step = _DAY_MICROS // max(1, len(picked))
        for number, (mandate, charge) in enumerate(picked):
            member_no, amount, dimension_no, before_workflow, after_workflow = charge
            at = begin + number * step
            counted_on = day if at < ends else day + timedelta(days=1)
            mandate.seq += 1
            mandate.balance -= amount
            sums = self._rollups[mandate.no, member_no, counted_on, dimension_no]
            sums[0] += amount
            sums[1] += 1
            if mandate.calls % CALLS_OF_WORKFLOW == 0:
                mandate.workflows.append(_workflow(chance))
            mandate.calls += 1
            workflow = mandate.workflows[-1]
            if (mandate.seq + 1) % SPAN == 0:
                mandate.end_block()
            # fmt: off
            own = _OWN.pack(
                len(COLUMNS), 4, mandate.no, 16, _id_at(at, chance), 8, member_no, 8, mandate.pool_no,
                8, mandate.seq, 8, amount, 8, mandate.balance, 8, at, 8, at, 4, (counted_on - TIME_START.date()).days,
            )
            # fmt: on
            rows.append(own + before_workflow + _LENGTH.pack(len(workflow)) + workflow.encode() + after_workflow)
        return rows

    async def _write_blocks(self, connection: asyncpg.Connection) -> None:
        """The workflows of a day's copies, in blocks of each mandate."""
        for each in self._mandates:
            each.end_block()
            await connection.copy_records_to_table("workflow_blocks", records=each.blocks, timeout=LOADING_S)
            each.blocks.clear()

    async def _write_rollups(self, connection: asyncpg.Connection, *, before: date) -> None:
        """Those of the days before one, on which no more copies fall."""
        written = [key for key in self._rollups if key[2] < before]
        records = [(*key, *self._rollups.pop(key)) for key in sorted(written)]
        names = ("mandate_no", "member_account_no", "day", "dimension_no", "cost", "count")
        await connection.copy_records_to_table("rollups", records=records, columns=names, timeout=LOADING_S)


def _id_at(at: int, chance: random.Random) -> bytes:
    """A time-ordered event id, as good publishers make them, of microseconds since the year 2000."""
    milliseconds = at // 1_000 + _UNIX_MS
    return (milliseconds << 80 | 7 << 76 | 2 << 62 | chance.getrandbits(62) | chance.getrandbits(12) << 64).to_bytes(16)


def _workflow(chance: random.Random) -> str:
    return f"workflow-{chance.getrandbits(64):016x}"


async def _read_charges(connection: asyncpg.Connection, mandate: _Mandate) -> None:
    """Its account and its charges, as bytes."""
    row = await connection.fetchrow(
        "SELECT m.no, a.no AS pool_no, a.seq, a.balance FROM mandates m"
        " JOIN accounts a ON a.mandate_no = m.no AND a.type = 'MANDATE' WHERE m.id = $1",
        mandate.id,
    )
    mandate.no, mandate.pool_no, mandate.seq, mandate.balance = row
    found = BytesIO()
    names = ", ".join(COLUMNS)
    charges = f"SELECT {names} FROM transactions WHERE mandate_no = $1 AND contra_account = 'REVENUE'"
    await connection.copy_from_query(charges, mandate.no, output=found, format="binary")
    mandate.charges = list(_charges(found.getbuffer()))


def _charges(found: memoryview) -> Iterator[_Charge]:
    """The charges that the rows of a COPY are."""
    at = _SIGNATURE_BYTES
    while (fields := _FIELDS.unpack_from(found, at)[0]) >= 0:
        own = _OWN.unpack_from(found, at)
        # Where each of the other fields begins, and where the last one ends.
        begins = [at + _OWN.size]
        for _ in range(fields - _OWN_FIELDS):
            length = _LENGTH.unpack_from(found, begins[-1])[0]
            begins.append(begins[-1] + _LENGTH.size + max(0, length))
        first, dimension, *_ = begins
        workflow, after = begins[_FIELDS_BEFORE_WORKFLOW : _FIELDS_BEFORE_WORKFLOW + 2]
        dimension_no = _DIMENSION.unpack_from(found, dimension)[1]
        at = begins[-1]
        yield _Charge(own[6], own[12], dimension_no, bytes(found[first:workflow]), bytes(found[after:at]))


async def _copy(connection: asyncpg.Connection, table: str, names: Sequence[str], *, source: memoryview) -> None:
    await connection.copy_to_table(table, source=source, columns=names, format="binary", timeout=LOADING_S)
