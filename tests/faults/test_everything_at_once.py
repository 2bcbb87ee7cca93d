"""Usage, cancellations, holds, captures, switches and the jobs at once, with the clock moved ahead meanwhile: the books
add up at every moment, and each hold and event is settled once."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from services.billing.audit import audit, read_published
from services.billing.corrections.reverse_charge import cancel_event
from services.billing.mandates.apply_directory import ApplyDirectory
from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.settings import KafkaSettings
from tests.integration.billing.conftest import BillingApi
from tests.support.databases import connected, opened
from tests.support.directory import directory_events
from tests.support.events import new_mandate, publish, scattered, usage_record, voided_record
from tests.support.holding import Holding, chf
from tests.support.ledger import Books
from tests.support.limiting import Limiting
from tests.support.processes import Crew, FaultFolder, ServiceProcess
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

AHEAD_S = 1800


@pytest.fixture
async def database(servers: ServerPair) -> AsyncIterator[Database]:
    async with opened(servers.dsn("billing"), pool_size=4) as database:
        yield database


async def _audited(servers: ServerPair, kafka: KafkaSettings) -> dict[str, list[dict[str, str | None]]]:
    """The failures of an audit that knows what was published until now."""
    published = await read_published(kafka, now=system_clock() + timedelta(seconds=AHEAD_S + 60))
    async with connected(servers.admin_dsn, schema="billing") as connection:
        return {check.name: check.failing for check in await audit(connection, published) if check.failing_count}


def _move(clock_file: Path) -> None:
    clock_file.write_text(json.dumps({"offset_s": AHEAD_S, "counts_from": time.time() + 2}))


async def test_books_add_up_at_every_moment_while_everything_happens_and_the_clock_is_moved(
    servers: ServerPair, database: Database, books: Books, faults: FaultFolder, tmp_path: Path
) -> None:
    kafka = KafkaSettings(bootstrap_servers=servers.kafka.bootstrap_servers)
    more = {**faults.settings, "BILLING_CLOCK_FILE": str(tmp_path / "clock.json")}
    mandate, model = new_mandate(), f"model-{uuid4()}"
    await ApplyDirectory(database, clock=system_clock)(directory_events(mandate, {"user-1": ["member"]}), [])
    async with (
        ServiceProcess(servers, "billing", "api", tmp_path / "api.log", more=more) as process,
        httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=20) as client,
        Crew(servers, tmp_path, more=more).at_work(2) as crew,
    ):
        holding = Holding(BillingApi(client, servers.secret, database), books, mandate)
        await holding.credit(1000)
        # They refuse nothing here; the audit sees that all is counted towards them.
        limits = Limiting(database, mandate, system_clock())
        await limits.set(("member", "user-1", "month", "1e6"), ("provider", "anthropic", "day", "1e6"))
        holds = [await holding.hold("1", ttlSeconds=random.choice([300, 3600])) for _ in range(60)]
        # Nothing settles these, but the clock.
        left = [await holding.hold("1", ttlSeconds=ttl_s) for ttl_s in (300, 3600)]
        ids = [uuid4() for _ in holds]
        unpriced = {"cost": None, "model": model, "tokens": {"input": 1}}
        usage = [
            usage_record(mandate, event_id=event, hold_id=hold, **(unpriced if number % 4 == 0 else {}))
            for number, (event, hold) in enumerate(zip(ids, holds, strict=True))
        ]
        # Some cancel an event, some the capture by cost that a hold has or never gets.
        voids = [voided_record(mandate, event) for event in (*ids[::2], *map(UUID, holds[::3]))]
        records = random.sample([*usage, *voids, *usage, *voids], 2 * (len(usage) + len(voids)))
        await crew.sharing()

        async def asked() -> list[httpx.Response]:
            answers = []
            for number, hold in enumerate(random.sample(holds, len(holds))):
                if number % 3:
                    answers.append(await holding.capture(hold, cost=chf("0.1")))
                else:
                    answers.append(await holding.void(hold))
                if number % 15 == 0:
                    answers.append(await holding.switch(random.choice(["PREPAY_USER", "PREPAY_MANDATE"])))
                if number % 5 == 0:
                    await cancel_event(database, mandate, ids[number], "by hand", clock=system_clock)
                if number == 20:
                    await holding.api.price(model, "0.001")
                if number == 30:
                    _move(tmp_path / "clock.json")
                await asyncio.sleep(0.1)
            return answers

        work = asyncio.gather(publish(servers.kafka.bootstrap_servers, scattered(records), pause_s=0.5), asked())
        audits = 0
        while not work.done():
            assert await _audited(servers, kafka) == {}
            audits += 1
        _, answers = await work
        assert {answer.status_code for answer in answers} <= {200, 409}
        assert audits > 3

        async def settled() -> bool:
            return await books.parked([mandate]) == 0 and await holding.held() == await _open(books, mandate)

        await eventually(settled, what="priced usage and released holds")
        await books.relayed()
        assert await _audited(servers, kafka) == {}
        assert crew.restarts == 0
    states = {(await holding.state(hold))[0] for hold in holds}
    assert states >= {"CAPTURED", "VOIDED"}
    assert [await holding.state(hold) for hold in left] == [("EXPIRED", None), ("OPEN", None)]


async def _open(books: Books, mandate: str) -> dict[str | None, int]:
    """What the holds hold that outlast the move of the clock, by account."""
    rows = await books.fetch(
        "SELECT a.user_id, sum(h.amount)::bigint AS held FROM holds h JOIN mandates m ON m.no = h.mandate_no"
        " JOIN accounts a ON a.mandate_no = h.mandate_no AND a.no = h.account_no"
        " WHERE m.id = $1 AND h.state = 'OPEN' AND h.expires_at > h.created_at + interval '30 minutes' GROUP BY 1",
        mandate,
    )
    return {row["user_id"]: row["held"] for row in rows}
