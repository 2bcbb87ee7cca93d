"""A publisher that falls silent is told on Kafka, by a real worker, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import orjson

from services.chassis.database import Database
from tests.support.events import publish, usage_record
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess
from tests.support.stack import ServerPair
from tests.support.topics import read_topic
from tests.support.used import made, use
from tests.support.waiting import eventually


async def test_a_publisher_that_falls_silent_is_told_and_counted_until_it_publishes(
    servers: ServerPair, bootstrap_servers: str, database: Database, books: Books, tmp_path: Path
) -> None:
    mandate, now = await made(database), datetime.now(UTC)
    last = now - timedelta(hours=6)
    await use(database, [usage_record(mandate, at=last - timedelta(hours=hours)) for hours in range(24 * 21)], now=now)
    more = {"BILLING_PUBLISHER_SILENCE_MIN_S": "60"}
    async with ServiceProcess(servers, "billing", "worker", tmp_path / "worker.log", more=more) as worker:
        (record,) = await read_topic(bootstrap_servers, "publisher.silent", key=mandate, count=1)
        silent = orjson.loads(record.value)
        assert (silent["mandate_id"], silent["silence"]) == (mandate, 1)
        assert datetime.fromisoformat(silent["last_usage_at"]) == last
        assert 0 <= silent["usual_gap_s"] <= 3_600
        assert await _silent(worker) >= 1
    await publish(bootstrap_servers, [usage_record(mandate)])
    async with ServiceProcess(servers, "billing", "worker", tmp_path / "again.log", more=more):
        await books.wait_charged([mandate], 24 * 21 + 1)
    # A worker that starts looks at once.
    async with ServiceProcess(servers, "billing", "worker", tmp_path / "after.log", more=more):

        async def over() -> bool:
            return bool(
                await books.value(
                    "SELECT s.over FROM publisher_silences s JOIN mandates m ON m.no = s.mandate_no WHERE m.id = $1",
                    mandate,
                )
            )

        await eventually(over, what="the end of the silence")
    assert len(await read_topic(bootstrap_servers, "publisher.silent", key=mandate, count=1)) == 1
    assert await books.failing() == {}


async def _silent(worker: ServiceProcess) -> float:
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{worker.url}/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith("rappen_publishers_silent ")]
    return float(line.split()[1])
