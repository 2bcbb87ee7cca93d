"""Workers killed at placed points: nothing is lost, nothing is charged twice, and the kill is proved by its mark."""

import orjson
import pytest

from tests.support.events import new_mandate, publish, stream
from tests.support.ledger import Books
from tests.support.processes import Crew, FaultFolder
from tests.support.topics import read_topic
from tests.support.waiting import eventually

USAGE = "rappen_events_consumed_total"


@pytest.mark.parametrize("point", ["before_transaction", "before_commit", "after_commit"])
async def test_a_worker_killed_around_its_commit_charges_every_event_once(
    bootstrap_servers: str, books: Books, faults: FaultFolder, crew: Crew, point: str
) -> None:
    mandates = [new_mandate() for _ in range(20)]
    first, first_ids = stream(mandates, 3000)
    second, second_ids = stream(mandates, 1000)
    async with crew.at_work(2):
        # Both die at once, so that the group waits for its dead members once.
        await crew.sharing()
        faults.arm(point, times=2)
        await publish(bootstrap_servers, first)
        await eventually(lambda: faults.hits(point) >= 2, what="two kills")
        await publish(bootstrap_servers, second)
        await books.wait_charged(mandates, 4000)
        if point == "after_commit":
            # The killed batches were committed, so they must have come again and been recognised.
            await eventually(lambda: _repeated(crew), what="repeats")
        await books.settled(mandates, first_ids + second_ids)
    assert faults.hits(point) == 2
    assert crew.restarts == 2


async def test_a_worker_killed_inside_the_revoke_callback_loses_nothing(
    bootstrap_servers: str, books: Books, faults: FaultFolder, crew: Crew
) -> None:
    mandates = [new_mandate() for _ in range(5)]
    async with crew.at_work(1):
        await crew.workers[0].ready()
        first, first_ids = stream(mandates, 1000)
        await publish(bootstrap_servers, first)
        await books.wait_charged(mandates, 1)
        faults.arm("revoke")
        crew.hire()
        second, second_ids = stream(mandates, 1000)
        await publish(bootstrap_servers, second)
        await eventually(lambda: faults.hits("revoke") >= 1, what="the kill")
        await books.wait_charged(mandates, 2000)
        await books.settled(mandates, first_ids + second_ids)
    assert faults.hits("revoke") == 1


async def test_a_relay_killed_between_produce_and_mark_tells_every_balance_and_the_last_one_is_true(
    bootstrap_servers: str, books: Books, faults: FaultFolder, crew: Crew
) -> None:
    mandates = [new_mandate() for _ in range(5)]
    first, first_ids = stream(mandates, 50)
    records, ids = stream(mandates[1:], 450)
    faults.arm("relay_produced_states")
    async with crew.at_work(1):
        await publish(bootstrap_servers, first)
        await eventually(lambda: faults.hits("relay_produced_states") >= 1, what="the kill")
        # The accounts of the first mandate do not move again: what is told of them twice was told before the kill.
        await publish(bootstrap_servers, records)
        await books.wait_charged(mandates, 500)
        await books.settled(mandates, first_ids + ids)
    told = await _balances_told(bootstrap_servers, set(mandates))
    assert sum(len(versions) - len(set(versions)) for versions in told.values()) > 0, "nothing was published twice"
    accounts = await books.fetch(
        "SELECT a.no, a.seq FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
        " WHERE m.id = ANY($1) AND a.seq > 0 AND a.type IN ('MANDATE', 'USER')",
        mandates,
    )
    assert {str(row["no"]): row["seq"] for row in accounts} == {no: versions[-1] for no, versions in told.items()}


async def _repeated(crew: Crew) -> bool:
    return await crew.metric(USAGE, topic="usage.recorded", outcome="repeated") > 0


async def _balances_told(bootstrap_servers: str, mandates: set[str]) -> dict[str, list[int]]:
    """The versions of each account's balance in the order of the topic."""
    told: dict[str, list[int]] = {}
    for record in await read_topic(bootstrap_servers, "balance.changed"):
        data = orjson.loads(record.value)
        if data["mandate_id"] in mandates:
            told.setdefault(data["account_id"], []).append(data["version"])
    return told
