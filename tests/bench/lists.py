"""`python -m tests.bench.lists [--quick]`: lists of transactions upon a large ledger, over HTTP at the billing api.

The ledger is made by the charge itself, in small, and multiplied in the database: the same rows with new ids, times,
numbers and balances, and the accounts and rollups that belong to them, so that the audit finds nothing. One mandate has
a tenth of all rows. The exit code is 1 when a figure misses its target.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.billing.mandates.apply_directory import ApplyDirectory
from services.chassis.caller import Caller
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.support.callers import headers
from tests.support.charging import charge
from tests.support.databases import connected, opened
from tests.support.directory import directory_events
from tests.support.events import usage_record
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess
from tests.support.stack import ServerPair

USERS = "/api/billing/view/users/transactions"
LARGE = "large"
SMALL_MANDATES = 100
MEMBERS = 50
MODELS = [("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-5"), ("mistral", "large-3"), ("google", "gemini-3")]
FEATURES = ["chat", "code", "search"]
TARGET_MS = 50.0
EXPORTED_LEAST = 50_000
DAYS = 700

# Rows like those that a mandate has, `factor` of each, spread over the days before, in the order of their times.
_MULTIPLY = """
WITH made AS (
    SELECT t.*, now() - random() * make_interval(days => $3) AS at
      FROM transactions t, generate_series(1, $2::int)
     WHERE t.mandate_no = $1 AND t.contra_account = 'REVENUE'),
chained AS (
    SELECT made.*, row_number() OVER chain AS number, sum(made.amount) OVER chain AS spent
      FROM made WINDOW chain AS (PARTITION BY posted_account_no ORDER BY at))
INSERT INTO transactions (mandate_no, event_id, member_account_no, posted_account_no, seq, transaction_type, amount,
       balance_after, contra_account, reference_type, reference_id, description, occurred_at, recorded_at, period_day,
       dimension_no, workflow_id, created_by_user_id, processing_time_ms, bytes_sent, bytes_received, error_count,
       input_tokens, output_tokens, derivation, digest, own, grants)
SELECT c.mandate_no, gen_random_uuid(), c.member_account_no, c.posted_account_no, a.seq + c.number, c.transaction_type,
       c.amount, a.balance - c.spent, c.contra_account, c.reference_type, c.reference_id, c.description, c.at,
       c.recorded_at, (c.at AT TIME ZONE 'Europe/Zurich')::date, c.dimension_no, c.workflow_id, c.created_by_user_id,
       c.processing_time_ms, c.bytes_sent, c.bytes_received, c.error_count, c.input_tokens, c.output_tokens,
       c.derivation, c.digest, c.own, c.grants
  FROM chained c JOIN accounts a ON a.mandate_no = c.mandate_no AND a.no = c.posted_account_no
 ORDER BY c.at
"""
_ACCOUNTS = """
UPDATE accounts a SET balance = last.balance_after, seq = last.seq
  FROM (SELECT DISTINCT ON (mandate_no, posted_account_no) mandate_no, posted_account_no, seq, balance_after
          FROM transactions ORDER BY mandate_no, posted_account_no, seq DESC) last
 WHERE a.mandate_no = last.mandate_no AND a.no = last.posted_account_no
"""
_ROLLUPS = """
INSERT INTO rollups (mandate_no, member_account_no, day, dimension_no, cost, count)
SELECT mandate_no, member_account_no, period_day, dimension_no, sum(amount), count(*)
  FROM transactions WHERE contra_account = 'REVENUE' GROUP BY 1, 2, 3, 4
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One kind of request."""

    name: str
    milliseconds: Sequence[float]

    def percentile(self, share: float) -> float:
        """The latency under which that share of the requests stay."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def _build(servers: ServerPair, database: Database, rows: int, large: int) -> None:
    """The ledger: some charges of each mandate, multiplied."""
    small = [f"small-{number}" for number in range(SMALL_MANDATES)]
    apply = ApplyDirectory(database, clock=system_clock)
    for mandate, members in [(LARGE, MEMBERS), *((each, 2) for each in small)]:
        users = {f"{mandate}-u{number}": ["member"] for number in range(members)}
        await apply(directory_events(mandate, users, label=mandate.title()), [])
        await charge(
            database,
            *(
                usage_record(mandate, user, provider=provider, model=model, feature_code=feature, amount=f"0.0{cost}")
                for number, user in enumerate(users)
                for cost, (provider, model) in enumerate(MODELS, start=1)
                for feature in [FEATURES[(number + cost) % len(FEATURES)]]
            ),
        )
    async with connected(servers.dsn("billing", owner=True), schema="billing") as connection:
        await connection.execute("SET work_mem = '256MB'")
        counted = await connection.fetch(
            "SELECT m.no, m.id, count(*) AS rows FROM mandates m JOIN transactions t ON t.mandate_no = m.no GROUP BY 1"
        )
        for no, mandate, count in counted:
            wanted = large if mandate == LARGE else (rows - large) // SMALL_MANDATES
            await connection.execute(_MULTIPLY, no, max(1, wanted // count), DAYS, timeout=3600)
        await connection.execute(_ACCOUNTS, timeout=3600)
        await connection.execute("DELETE FROM rollups", timeout=3600)
        await connection.execute(_ROLLUPS, timeout=3600)
        await connection.execute("VACUUM (ANALYZE) transactions", timeout=3600)
        await connection.execute("ANALYZE", timeout=3600)


def _requests(chance: random.Random) -> dict[str, tuple[Caller, str, dict[str, Any]]]:
    """What is measured, each time with other values."""
    admin = Caller(user_id="boss", mandates={LARGE: True})
    member = Caller(user_id=f"{LARGE}-u{chance.randrange(MEMBERS)}", mandates={LARGE: False})
    provider, model = chance.choice(MODELS)
    user = f"u{chance.randrange(MEMBERS)}"

    def listed(**pagination: Any) -> dict[str, Any]:
        return {"pagination": json.dumps(pagination)}

    values = f"{USERS}/filter-values"
    return {
        "first page": (admin, USERS, listed()),
        "page 1,000": (admin, USERS, listed(page=1000 - chance.randrange(5))),
        "search of a model": (admin, USERS, listed(search=model[:6])),
        "search of a member": (admin, USERS, listed(search=f"large-{user}")),
        "filter by provider": (admin, USERS, listed(filters={"aicoreProvider": provider})),
        "filter by member": (admin, USERS, listed(filters={"userId": f"{LARGE}-{user}"})),
        "sorted by amount": (admin, USERS, listed(sort=[{"field": "amount", "direction": "desc"}])),
        "values of provider": (admin, values, {"column": "aicoreProvider"}),
        "values of userName": (admin, values, {"column": "userName"}),
        "values of createdAt": (admin, values, {"column": "createdAt"}),
        "a member's own": (member, USERS, listed()),
        "the operator's, all mandates": (Caller(user_id="root", system_admin=True), USERS, listed()),
    }


async def _measure(client: httpx.AsyncClient, secret: str, repeats: int) -> list[Measured]:
    chance, found = random.Random(3), dict[str, list[float]]()
    for number in range(repeats + 2):
        for name, (caller, path, params) in _requests(chance).items():
            signed = headers(caller, audience="billing", secret=secret)
            begun = time.perf_counter()
            answer = await client.get(path, params=params, headers=signed)
            elapsed = (time.perf_counter() - begun) * 1000
            if answer.status_code != 200:
                raise RuntimeError(f"{name}: {answer.status_code} {answer.text[:300]}")
            # The first two of each warm up.
            if number >= 2:
                found.setdefault(name, []).append(elapsed)
    return [Measured(name, milliseconds) for name, milliseconds in found.items()]


async def _export(client: httpx.AsyncClient, secret: str) -> tuple[int, float]:
    """Lines of an export of the large mandate, and lines a second."""
    signed = headers(Caller(user_id="boss", mandates={LARGE: True}), audience="billing", secret=secret)
    lines, begun = 0, time.perf_counter()
    async with client.stream("GET", f"{USERS}/export", headers=signed) as answer:
        async for piece in answer.aiter_raw():
            lines += piece.count(b"\r\n")
    return lines, lines / (time.perf_counter() - begun)


async def _run(rows: int, large: int, repeats: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix="rappen-bench-lists-"))
    missed = 0
    try:
        servers = ServerPair(folder)
        with servers.running(["billing"]):
            async with opened(servers.dsn("billing"), pool_size=2) as database:
                begun = time.perf_counter()
                await _build(servers, database, rows, large)
                print(f"{rows:,} rows in {time.perf_counter() - begun:.0f} s", flush=True)
            books = Books(servers.dsn("billing"))
            failing = await books.failing()
            if failing:
                raise RuntimeError(f"the audit finds {failing}")
            async with ServiceProcess(servers, "billing", "api", folder / "api.log") as api:
                async with httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=60) as client:
                    for each in await _measure(client, servers.secret, repeats):
                        late = each.percentile(0.99) > TARGET_MS
                        missed += late
                        told = f"p50 {each.percentile(0.5):.1f} ms, p99 {each.percentile(0.99):.1f} ms"
                        print(f"{each.name:30} {told}{'  above the target' if late else ''}", flush=True)
                    lines, per_second = await _export(client, servers.secret)
                    missed += per_second < EXPORTED_LEAST
                    print(f"{'export':30} {lines:,} lines, {per_second:,.0f} a second", flush=True)
    finally:
        shutil.rmtree(folder)
    return 1 if missed else 0


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lists")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--rows", type=int, default=5_000_000, help="of the ledger (default: 5,000,000)")
    parser.add_argument("--large", type=int, help="those of the large mandate (default: a tenth)")
    parser.add_argument("--repeats", type=int, default=100, help="requests of each kind (default: 100)")
    given = parser.parse_args()
    rows = given.rows // 10 if given.quick else given.rows
    return asyncio.run(_run(rows, given.large or rows // 10, given.repeats))


if __name__ == "__main__":
    sys.exit(_main())
