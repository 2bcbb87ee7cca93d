"""`python -m tests.bench.year_statistics [--quick]`: statistics of a year over HTTP at the billing api, of a mandate
with many charges and of one with a tenth of them.

All charges are made by the charge itself, over a year of days, and the audit finds nothing. The exit code is 1 when a
figure misses its target: a year's p99, and how much more it is where there are ten times as many charges.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.statistics.keep_sums import KeepSums
from services.chassis.caller import Caller
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.bench.measure import Latency
from tests.support.callers import headers
from tests.support.charging import charging, received
from tests.support.databases import connected, opened
from tests.support.directory import directory_events
from tests.support.events import RawRecord, usage_record
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess
from tests.support.stack import ServerPair

LARGE, SMALL = "large", "small"
MODELS = [("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-5"), ("mistral", "large-3"), ("google", "gemini-3")]
INSTANCES = [f"instance-{number}" for number in range(10)]
BATCH = 2_000
TARGET_MS = 20.0
FLAT_MOST = 1.2


def _records(mandate: str, count: int, members: int, chance: random.Random, now: datetime) -> Iterator[RawRecord]:
    """Usage of a year, by members, models and feature instances at random, the oldest first."""
    for number in range(count):
        provider, model = chance.choice(MODELS)
        yield usage_record(
            mandate,
            f"user-{chance.randrange(members)}",
            amount=f"0.00{chance.randrange(10**6):06}",
            at=now - timedelta(days=360 * (1 - number / count)),
            provider=provider,
            model=model,
            feature_code=f"feature-{chance.randrange(3)}",
            feature_instance_id=chance.choice(INSTANCES),
        )


async def _charge(database: Database, mandate: str, count: int, members: int, now: datetime) -> None:
    entry = directory_events(mandate, {"boss": ["admin"]}, label=mandate.title())
    await ApplyDirectory(database, clock=system_clock)(entry, [])
    handler, batch = charging(database), list[RawRecord]()
    for record in _records(mandate, count, members, random.Random(mandate), now):
        batch.append(record)
        if len(batch) == BATCH:
            await handler(received(batch), [])
            batch.clear()
    await handler(received(batch), [])


def _requests(year: int) -> dict[str, tuple[str, str]]:
    """What is asked of each mandate: by whom, and where."""
    view = "/api/billing/view/statistics"
    return {
        "year": ("boss", f"{view}?year={year}"),
        "month by day": ("boss", f"{view}?period=day&year={year}&month=6"),
        "a member's own year": ("user-1", f"/api/billing/statistics/year?year={year}"),
    }


async def _measure(client: httpx.AsyncClient, secret: str, year: int, repeats: int) -> dict[tuple[str, str], Latency]:
    """By turns, so that a machine that others use is as slow for both mandates."""
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(repeats + 5):
        for name, (user, path) in _requests(year).items():
            for mandate in (LARGE, SMALL):
                caller = Caller(user_id=user, mandates={mandate: user == "boss"})
                signed = headers(caller, audience="billing", secret=secret)
                begun = time.perf_counter()
                answer = await client.get(path, headers=signed)
                elapsed = (time.perf_counter() - begun) * 1_000
                if answer.status_code != 200 or not answer.json()["transactionCount"]:
                    raise RuntimeError(f"{name} of {mandate}: {answer.status_code} {answer.text[:300]}")
                # The first of each warm up.
                if number >= 5:
                    found.setdefault((name, mandate), []).append(elapsed)
    return {key: Latency.of(milliseconds) for key, milliseconds in found.items()}


def _report(measured: dict[tuple[str, str], Latency]) -> int:
    missed = 0
    for name in dict.fromkeys(name for name, _ in measured):
        for mandate in (LARGE, SMALL):
            latency = measured[name, mandate]
            late = name == "year" and latency.p99_ms >= TARGET_MS
            missed += late
            told = f"p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms"
            print(f"{f'{name}, {mandate}':28} {told}{'  above the target' if late else ''}", flush=True)
        ratio = measured[name, LARGE].p50_ms / measured[name, SMALL].p50_ms
        steep = name == "year" and ratio > FLAT_MOST
        missed += steep
        print(f"{f'{name}, large / small':28} {ratio:.2f}{'  above the target' if steep else ''}", flush=True)
    return missed


async def _run(rows: int, members: int, repeats: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix="rappen-bench-statistics-"))
    now = datetime.now(UTC)
    try:
        servers = ServerPair(folder)
        # The fixture of the tests runs event loops of its own.
        await asyncio.to_thread(servers.start, ["billing"])
        try:
            async with opened(servers.dsn("billing"), pool_size=2) as database:
                begun = time.perf_counter()
                for mandate, count in ((SMALL, rows // 10), (LARGE, rows)):
                    await _charge(database, mandate, count, members, now)
                print(f"{rows + rows // 10:,} charges in {time.perf_counter() - begun:.0f} s", flush=True)
                begun, keep = time.perf_counter(), KeepSums(database, clock=system_clock)
                while await keep():
                    pass
                print(f"summed in {time.perf_counter() - begun:.1f} s", flush=True)
            async with connected(servers.dsn("billing", owner=True), schema="billing") as connection:
                await connection.execute("ANALYZE")
                rollups = await connection.fetch(
                    "SELECT m.id, count(*) FROM rollups r JOIN mandates m ON m.no = r.mandate_no GROUP BY 1 ORDER BY 1"
                )
                print("rollups: " + ", ".join(f"{name} {count:,}" for name, count in rollups), flush=True)
            failing = await Books(servers.admin_dsn).failing()
            if failing:
                raise RuntimeError(f"the audit finds {failing}")
            async with ServiceProcess(servers, "billing", "api", folder / "api.log") as api:
                async with httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=60) as client:
                    year = (now - timedelta(days=180)).year
                    measured = await _measure(client, servers.secret, year, repeats)
            return 1 if _report(measured) else 0
        finally:
            await asyncio.to_thread(servers.stop)
    finally:
        shutil.rmtree(folder)


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.year_statistics")
    parser.add_argument("--quick", action="store_true", help="a tenth of the charges")
    parser.add_argument("--rows", type=int, default=500_000, help="charges of the large mandate (default: 500,000)")
    parser.add_argument("--members", type=int, default=1_000, help="of each mandate (default: 1,000)")
    parser.add_argument("--repeats", type=int, default=200, help="requests of each kind (default: 200)")
    given = parser.parse_args(arguments)
    rows = given.rows // 10 if given.quick else given.rows
    return asyncio.run(_run(rows, given.members, given.repeats))


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
