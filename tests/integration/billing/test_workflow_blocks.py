"""The workflows of rows are kept in blocks, by which lists find them, whoever merges blocks meanwhile."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from services.billing.ledger.merge_workflow_blocks import SLICE, MergeWorkflowBlocks
from services.billing.ledger.workflow_blocks import MANY, SPAN
from services.billing.tables import mandates
from services.chassis.caller import Caller
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, system_admin
from tests.support.charging import charge
from tests.support.events import new_mandate, usage_record, voided_record
from tests.support.ledger import Books
from tests.support.locks import held
from tests.support.machines import Crash, CrashPoint
from tests.support.stack import ServerPair
from tests.support.statements import CountedDatabase

_LOCK_BLOCKS = (
    "SELECT 1 FROM billing.workflow_blocks b JOIN billing.mandates m ON m.no = b.mandate_no WHERE m.id = $1"
    " FOR UPDATE OF b"
)
LIST = "/api/billing/view/users/transactions"


@dataclass
class Kept:
    """A mandate, and what is kept of its workflows."""

    api: BillingApi
    books: Books
    mandate: str

    async def use(self, *workflows: str | None) -> None:
        """Charges of one batch, each of a workflow."""
        await charge(self.api.database, *(usage_record(self.mandate, workflow_id=each) for each in workflows))

    async def use_by_turns(self, workflows: list[str]) -> None:
        """Charges that come one by one."""
        for each in workflows:
            await self.use(each)

    async def blocks(self) -> list[tuple[int, int, set[str]]]:
        """The first and the last number of each block, and its workflows."""
        rows = await self.books.fetch(
            "SELECT b.first_seq, b.last_seq, b.workflow_ids FROM workflow_blocks b"
            " JOIN mandates m ON m.no = b.mandate_no WHERE m.id = $1 ORDER BY b.account_no, b.first_seq",
            self.mandate,
        )
        return [(row["first_seq"], row["last_seq"], set(row["workflow_ids"].split("\n"))) for row in rows]

    async def listed(self, caller: Caller | None = None, **asked: Any) -> list[str | None]:
        """The workflows of what is listed of the mandate, in their order; the total is as many."""
        params = {"mandateId": self.mandate, "pagination": json.dumps({"pageSize": 1000, **asked})}
        answer = await self.api.call(caller or admin_of(self.mandate), "GET", LIST, params=params)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["pagination"]["totalItems"] == len(found["items"])
        return sorted((row["workflowId"] for row in found["items"]), key=str)

    async def require_order(self) -> None:
        """The audit finds nothing wrong with the blocks of the mandate."""
        assert [each for each in await self.books.failing() if each == "workflows"] == []


@pytest.fixture
async def kept(api: BillingApi, books: Books) -> Kept:
    return Kept(api, books, new_mandate())


async def _turns(database: Database) -> int:
    """In how many runs a job has looked at all mandates."""
    async with database.reading() as connection:
        return int(await connection.scalar(sa.select(sa.func.count()).select_from(mandates)) or 0) // SLICE + 1


async def _merge(database: Database, faults: FaultPoints | None = None) -> int:
    """Merges until all mandates were looked at in turn and nothing was left to merge; gives how many spans were."""
    turns = await _turns(database)
    merge, merged, idle = MergeWorkflowBlocks(database, faults=faults or FaultPoints(None)), 0, 0
    while idle < turns:
        found = await merge()
        merged, idle = merged + found, 0 if found else idle + 1
    return merged


async def test_rows_of_a_batch_are_in_one_block_of_their_account(kept: Kept) -> None:
    await kept.use("w-1", None, "w-2", "w-1")
    await kept.use(None, None)
    await kept.use(None, "w-1", None)
    assert await kept.blocks() == [(1, 4, {"w-1", "w-2"}), (7, 9, {"w-1"})]
    await kept.require_order()


async def test_workflows_are_compressed_by_lz4_or_kept_as_they_are(kept: Kept) -> None:
    await kept.use(*(f"workflow-{number:027}" for number in range(SPAN)))
    ((size, length),) = await kept.books.fetch(
        "SELECT pg_column_size(b.workflow_ids), octet_length(b.workflow_ids) FROM workflow_blocks b"
        " JOIN mandates m ON m.no = b.mandate_no WHERE m.id = $1",
        kept.mandate,
    )
    (by_lz4,) = await kept.books.fetch(
        "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    )
    assert length == SPAN * 37 - 1
    assert size < length if by_lz4[0] else size == length


async def test_the_block_takes_no_statement_of_its_own(kept: Kept) -> None:
    counted, calls = CountedDatabase(kept.api.database), []
    await kept.use("w-1")
    for workflow in ("w-1", None):
        counted.calls.clear()
        await charge(counted, usage_record(kept.mandate, workflow_id=workflow))
        calls.append(list(counted.calls))
    assert calls[0] == calls[1]
    assert len(await kept.blocks()) == 2


async def test_workflows_are_found_whatever_the_case_of_any_alphabet(kept: Kept) -> None:
    await charge(kept.api.database, usage_record(kept.mandate, workflow_id="flow-ik"))
    # The small letters of these are of ASCII: the I of Istanbul with its dot, and the sign of Kelvin.
    for text in ("flow-\u0130K", "FLOW-I\u212a", "\u0130k"):
        assert await kept.listed(search=text) == ["flow-ik"], text
        assert await kept.listed(filters={"workflowId": {"operator": "contains", "value": text}}) == ["flow-ik"], text


async def test_what_takes_a_charge_back_is_in_a_block_too(kept: Kept) -> None:
    usage = usage_record(kept.mandate, workflow_id="w-1")
    await charge(kept.api.database, usage)
    await charge(kept.api.database, voided_record(kept.mandate, usage.event_id))
    assert await kept.blocks() == [(1, 1, {"w-1"}), (2, 2, {"w-1"})]
    assert await kept.listed(search="W-1") == await kept.listed(filters={"workflowId": "w-1"}) == ["w-1", "w-1"]


async def test_lists_find_workflows_in_small_blocks_and_in_merged_ones(kept: Kept) -> None:
    await kept.use_by_turns([f"Flow-{number}" for number in range(MANY)])
    await kept.use("last", None)
    asked: list[tuple[dict[str, Any], list[str]]] = [
        ({"search": "flow-63"}, ["Flow-63"]),
        ({"search": "FLOW-6"}, ["Flow-6", "Flow-60", "Flow-61", "Flow-62", "Flow-63"]),
        ({"search": "flow-64"}, []),
        ({"search": "low-1\nflow"}, []),
        ({"search": "%"}, []),
        ({"search": "las"}, ["last"]),
        ({"filters": {"workflowId": "Flow-6"}}, ["Flow-6"]),
        ({"filters": {"workflowId": ["Flow-6", "last", "none"]}}, ["Flow-6", "last"]),
        ({"filters": {"workflowId": {"operator": "equals", "value": "low-6"}}}, []),
        ({"filters": {"workflowId": "last"}, "search": "flow"}, []),
    ]
    for request, expected in asked:
        assert await kept.listed(**request) == expected, request
    assert len(await kept.listed(filters={"workflowId": {"operator": "notEquals", "value": "last"}})) == MANY + 1
    assert await kept.listed(filters={"workflowId": None}) == [None]
    assert len(await kept.blocks()) == MANY + 1
    assert await _merge(kept.api.database) > 0
    assert await kept.blocks() == [(1, MANY + 2, {*(f"Flow-{number}" for number in range(MANY)), "last"})]
    await kept.require_order()
    for request, expected in asked:
        assert await kept.listed(**request) == expected, request


async def test_events_with_the_same_id_in_two_mandates_are_told_apart(kept: Kept) -> None:
    event_id, other = uuid4(), new_mandate()
    await charge(kept.api.database, usage_record(kept.mandate, event_id=event_id, workflow_id="mine"))
    await charge(kept.api.database, usage_record(other, event_id=event_id, workflow_id="theirs"))
    for request in ({"search": "mine"}, {"filters": {"workflowId": "mine"}}):
        params = {"scope": "all", "pagination": json.dumps({**request, "pageSize": 1000})}
        answer = await kept.api.call(system_admin(), "GET", LIST, params=params)
        found = [row["workflowId"] for row in answer.json()["items"] if row["mandateId"] in (kept.mandate, other)]
        assert found == ["mine"], request
        assert set(await kept.listed(**request)) == {"mine"}


async def test_an_event_and_a_workflow_that_have_the_text_are_both_found(kept: Kept) -> None:
    event_id = UUID("01900000-0000-7000-8000-00000000abba")
    await charge(kept.api.database, usage_record(kept.mandate, event_id=event_id, workflow_id="none"))
    await kept.use("x-abba", "y")
    assert await kept.listed(search="abba") == ["none", "x-abba"]


async def test_blocks_of_a_span_that_is_over_are_merged_however_few(kept: Kept) -> None:
    await kept.use("w-1")
    await kept.use("w-2")
    await _merge(kept.api.database)
    assert len(await kept.blocks()) == 2
    # A batch that reaches into the next span, whose own blocks stay.
    await kept.use(*(f"w-{number % 3}" for number in range(SPAN)))
    await kept.use("w-9")
    await _merge(kept.api.database)
    assert await kept.blocks() == [(1, SPAN + 2, {"w-0", "w-1", "w-2"}), (SPAN + 3, SPAN + 3, {"w-9"})]
    await kept.require_order()
    assert await kept.listed(search="w-9") == ["w-9"]


async def test_many_mandates_are_looked_at_in_turn(kept: Kept) -> None:
    await kept.use_by_turns(["w"] * MANY)
    for _ in range(0, SLICE + 1, 100):
        await charge(kept.api.database, *(usage_record(new_mandate()) for _ in range(100)))
    late = Kept(kept.api, kept.books, new_mandate())
    await late.use_by_turns(["w"] * MANY)
    await _merge(kept.api.database)
    assert await kept.blocks() == await late.blocks() == [(1, MANY, {"w"})]


async def test_a_crash_before_the_commit_leaves_the_blocks_as_they_were(kept: Kept) -> None:
    await kept.use_by_turns([f"w-{number}" for number in range(MANY)])
    before, crash = await kept.blocks(), CrashPoint()
    crash.armed = "merge_before_commit"
    with pytest.raises(Crash):
        await _merge(kept.api.database, crash)
    assert crash.armed is None
    assert await kept.blocks() == before
    await _merge(kept.api.database)
    assert await kept.blocks() == [(1, MANY, {f"w-{number}" for number in range(MANY)})]


async def test_one_worker_merges_at_a_time_and_others_do_not_wait(kept: Kept, servers: ServerPair) -> None:
    await kept.use_by_turns([f"w-{number}" for number in range(MANY)])
    turns = await _turns(kept.api.database)
    first, other = (MergeWorkflowBlocks(kept.api.database, faults=FaultPoints(None)) for _ in range(2))

    async def look(job: MergeWorkflowBlocks) -> int:
        return sum([await job() for _ in range(turns)])

    async with held(servers.admin_dsn, _LOCK_BLOCKS, kept.mandate) as lock:
        await lock.begin(look(first))
        await lock.begin(look(other))
        # The other one is done.
        assert lock.waited == 1
        assert (await lock.release())[1] == 0
    await _merge(kept.api.database)
    assert await kept.blocks() == [(1, MANY, {f"w-{number}" for number in range(MANY)})]


async def test_jobs_beside_each_other_and_charges_lose_and_double_nothing(kept: Kept) -> None:
    workflows, charged = [f"w-{number}" for number in range(2 * MANY)], asyncio.Event()

    async def use() -> None:
        await kept.use_by_turns(workflows)
        charged.set()

    async def merge() -> int:
        job, merged = MergeWorkflowBlocks(kept.api.database, faults=FaultPoints(None)), 0
        while not charged.is_set():
            merged += await job()
        return merged

    _, *merged = await asyncio.gather(use(), merge(), merge())
    assert sum(merged) > 0
    await _merge(kept.api.database)
    blocks = await kept.blocks()
    assert len(blocks) < MANY
    assert [first for first, _, _ in blocks[1:]] == [last + 1 for _, last, _ in blocks[:-1]]
    assert (blocks[0][0], blocks[-1][1]) == (1, len(workflows))
    assert sum(len(ids) for _, _, ids in blocks) == len(workflows)
    await kept.require_order()
    assert len(await kept.listed(search="w-")) == len(workflows)
