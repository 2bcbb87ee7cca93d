"""Workers that die while they close months: one invoice for each mandate, and no number left out."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.databases import opened
from tests.support.invoicing import Postpaid
from tests.support.ledger import Books
from tests.support.processes import Crew, FaultFolder
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

MANDATES = 12


@pytest.mark.parametrize("point", ["invoice_before_commit", "invoice_after_commit"])
async def test_workers_killed_around_their_commit_leave_months_to_others(
    servers: ServerPair, books: Books, faults: FaultFolder, tmp_path: Path, point: str
) -> None:
    last_month = datetime.now(UTC).replace(day=1) - timedelta(days=3)
    async with opened(servers.dsn("billing"), pool_size=2) as database:
        mandates = [await Postpaid(database, last_month).begin() for _ in range(MANDATES)]
        for number, mandate in enumerate(mandates, 1):
            await mandate.use(str(number))
        faults.arm(point, times=3)
        crew = Crew(servers, tmp_path, more=faults.settings)
        async with crew.at_work(2):
            await eventually(lambda: faults.hits(point) >= 3, timeout_s=120, what="three kills")

            async def all_invoiced() -> bool:
                return all([await mandate.invoices() for mandate in mandates])

            await eventually(all_invoiced, timeout_s=120, what="all invoices")
        found = [await mandate.invoices() for mandate in mandates]
        assert [[each["total"]["amount"] for each in invoices] for invoices in found] == [
            [f"{number}.000000"] for number in range(1, MANDATES + 1)
        ]
    assert await books.failing() == {}
    assert crew.restarts == 3
