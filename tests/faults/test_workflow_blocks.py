"""Workers killed while they merge blocks of workflows: no workflow is lost, and none is in two blocks."""

from services.billing.ledger.workflow_blocks import MANY
from tests.support.charging import charge
from tests.support.databases import opened
from tests.support.events import new_mandate, usage_record
from tests.support.ledger import Books
from tests.support.processes import Crew, FaultFolder
from tests.support.stack import ServerPair
from tests.support.waiting import eventually


async def test_workers_killed_before_a_merge_is_committed_leave_it_to_others(
    servers: ServerPair, books: Books, faults: FaultFolder, crew: Crew
) -> None:
    mandate, workflows = new_mandate(), [f"w-{number}" for number in range(MANY)]
    async with opened(servers.dsn("billing"), pool_size=2) as database:
        for each in workflows:
            await charge(database, usage_record(mandate, workflow_id=each))
    faults.arm("merge_before_commit", times=2)

    async def blocks() -> list[list[str]]:
        rows = await books.fetch(
            "SELECT workflow_ids FROM workflow_blocks b JOIN mandates m ON m.no = b.mandate_no WHERE m.id = $1", mandate
        )
        return [row["workflow_ids"].split("\n") for row in rows]

    async def is_merged() -> bool:
        return len(await blocks()) == 1

    async with crew.at_work(2):
        await eventually(lambda: faults.hits("merge_before_commit") >= 2, timeout_s=120, what="two kills")
        await eventually(is_merged, timeout_s=120, what="one block")
        # Who was started again first may have merged before the other was.
        await eventually(lambda: crew.restarts == 2, timeout_s=120, what="two workers started again")
    assert sorted((await blocks())[0]) == sorted(workflows)
    assert await books.failing() == {}
