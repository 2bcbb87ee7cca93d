"""Re-ratings where workers die in the middle, among live usage: every difference is posted once."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from services.billing.corrections.rerate import show_rerating, start_rerating
from services.billing.pricing import PriceList, PriceVersion, version_to_text
from services.billing.pricing.repository import add_versions, lock_revision, raise_revision
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.support.charging import charge
from tests.support.databases import opened
from tests.support.events import RawRecord, new_mandate, publish, usage_record
from tests.support.ledger import Books
from tests.support.processes import Crew, FaultFolder
from tests.support.rerating import FROM, of_model
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)


async def price(database: Database, model: str, input_price: str) -> None:
    version = PriceVersion("anthropic", model, "CHF", FROM, (PriceList({"input": Decimal(input_price)}),))
    async with database.transaction() as connection:
        await lock_revision(connection)
        await add_versions(connection, [(version, version_to_text(version))], None)
        await raise_revision(connection)


def used(mandate: str, model: str, count: int) -> RawRecord:
    return usage_record(mandate, cost=None, model=model, tokens={"input": count}, at=AT)


@pytest.mark.parametrize("point", ["before_rerating_commit", "after_rerating_commit"])
async def test_workers_killed_around_their_commit_leave_a_re_rating_to_the_next(
    servers: ServerPair, bootstrap_servers: str, books: Books, faults: FaultFolder, crew: Crew, *, point: str
) -> None:
    mandates, model = [new_mandate() for _ in range(3)], f"model-{uuid4()}"
    async with opened(servers.dsn("billing"), pool_size=2) as database:
        await price(database, model, "0.0000007")
        for mandate in mandates:
            await charge(database, *(used(mandate, model, 1 + number) for number in range(2_500)))
        await price(database, model, "0.0000011")
        live = [used(mandate, model, 3) for mandate in mandates for _ in range(100)]
        faults.arm(point, times=2)
        async with crew.at_work(2):
            answer: dict[str, Any] = await start_rerating(database, of_model(model), user_id="root", clock=system_clock)
            await publish(bootstrap_servers, live, pause_s=0.02)
            await eventually(lambda: faults.hits(point) >= 2, what="two kills", timeout_s=60)

            async def done() -> bool:
                return (await show_rerating(database, answer["id"]))["state"] == "DONE"

            await eventually(done, what="the end of the re-rating", timeout_s=60)
            await books.wait_charged(mandates, 7_800)
        answer = await show_rerating(database, answer["id"])
    assert crew.restarts >= 2
    # Of the live usage those that were charged before the page of their time was looked at are counted too.
    assert answer["differing"] == 7_500
    assert 7_500 <= answer["charges"] <= 7_800
    corrected = await books.value(
        "SELECT count(*) FROM price_corrections k JOIN mandates m ON m.no = k.mandate_no WHERE m.id = ANY($1)", mandates
    )
    assert corrected == 7_500
    exact = (2_500 * 2_501 // 2 + 300) * Decimal("0.0000011") * Decimal("1.5")
    for mandate in mandates:
        (row,) = await books.fetch(
            "SELECT a.balance, a.rounding_remainder FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
            " WHERE m.id = $1 AND a.type = 'MANDATE'",
            mandate,
        )
        assert Decimal(-row["balance"]).scaleb(-6) + row["rounding_remainder"] == exact
    assert await books.failing() == {}
