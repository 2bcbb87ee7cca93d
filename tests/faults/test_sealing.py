"""Workers killed while they seal days: each day is sealed once, and the chain has no gap."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.charging import charging, received
from tests.support.databases import opened
from tests.support.events import new_mandate, usage_record
from tests.support.ledger import Books
from tests.support.processes import Crew, FaultFolder
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

DAYS = 6
ROWS_A_DAY = 200


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    """Servers of its own, because the days of other tests have to stay open."""
    with ServerPair(tmp_path_factory.mktemp("servers")).running(["billing"]) as pair:
        yield pair


async def test_workers_killed_before_a_seal_is_committed_leave_it_to_others(
    servers: ServerPair, books: Books, faults: FaultFolder, tmp_path: Path
) -> None:
    mandate, now = new_mandate(), datetime.now(UTC)
    async with opened(servers.dsn("billing"), pool_size=2) as database:
        for number in range(DAYS, 0, -1):
            at = now - timedelta(days=number)
            batch = [usage_record(mandate, f"user-{each % 3}", amount="0.01", at=at) for each in range(ROWS_A_DAY)]
            await charging(database, clock=lambda at=at: at)(received(batch), [])
    faults.arm("seal_before_commit", times=3)
    crew = Crew(servers, tmp_path, more={**faults.settings, "BILLING_SEAL_AFTER_S": "0"})
    async with crew.at_work(2):
        await eventually(lambda: faults.hits("seal_before_commit") >= 3, timeout_s=120, what="three kills")

        async def all_sealed() -> bool:
            return bool(await books.value("SELECT count(*) >= $1 FROM sealed_days", DAYS))

        await eventually(all_sealed, timeout_s=120, what="sealed days")
    sealed = await books.fetch("SELECT day, rows FROM sealed_days ORDER BY day")
    assert [row["day"] for row in sealed[:DAYS]] == [(now - timedelta(days=DAYS - n)).date() for n in range(DAYS)]
    assert [row["rows"] for row in sealed[:DAYS]] == [ROWS_A_DAY] * DAYS
    assert await books.failing() == {}
    assert crew.restarts == 3
