"""The baseline: the path of the replaced system, one event at a time, six statements each committed by itself.

It reads settings and account, sums the mandate's balances, inserts the transaction, writes the balance it computed
from what it had read, and adds to the statistics. It is given its events decoded already and priced, without Kafka,
on an otherwise idle stack, and its sum is over balances instead of transactions: whatever was unclear is in its
favour. Two workers write over each other's balances; what is lost by that is counted.

Run as a process, it is one worker: it says `ready`, begins at a line on its input, and prints what it did.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg

from tests.bench.child import Child, tell_ready
from tests.bench.population import MANDATES, MEMBERS, Usages

__all__ = ["NaiveOutcome", "naive_run"]

EVENTS_MAX = 50_000

_TABLES = """
DROP SCHEMA IF EXISTS naive CASCADE;
CREATE SCHEMA naive;
SET search_path = naive;
CREATE TABLE settings (mandate_id text PRIMARY KEY, model text NOT NULL, markup numeric NOT NULL);
CREATE TABLE accounts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mandate_id text NOT NULL,
                       user_id text NOT NULL, balance numeric NOT NULL, UNIQUE (mandate_id, user_id));
CREATE TABLE transactions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id bigint NOT NULL,
                           amount numeric NOT NULL, description text NOT NULL, provider text NOT NULL,
                           model text NOT NULL, feature text NOT NULL, workflow_id text NOT NULL,
                           processing_time_ms bigint NOT NULL, bytes_sent bigint NOT NULL,
                           bytes_received bigint NOT NULL, error_count bigint NOT NULL,
                           created_at timestamptz NOT NULL);
CREATE INDEX ON transactions (account_id, created_at);
CREATE TABLE statistics (account_id bigint NOT NULL, day date NOT NULL, provider text NOT NULL, model text NOT NULL,
                         feature text NOT NULL, cost numeric NOT NULL, count bigint NOT NULL,
                         PRIMARY KEY (account_id, day, provider, model, feature));
"""


@dataclass(frozen=True, slots=True)
class NaiveOutcome:
    """Events charged, the time it took, and the share of the charges that no balance shows."""

    workers: int
    events: int
    seconds: float
    lost_percent: float

    @property
    def per_second(self) -> float:
        """Events a second, all workers together."""
        return self.events / self.seconds


@dataclass(frozen=True, slots=True)
class _Order:
    dsn: str
    seconds: float
    seed: int


async def naive_run(connection: asyncpg.Connection, dsn: str, *, workers: int, seconds: float) -> NaiveOutcome:
    """Runs so many workers on the same accounts, in tables made for this run, and looks at what they left."""
    await connection.execute(_TABLES)
    await connection.executemany(
        "INSERT INTO naive.settings VALUES ($1, 'PREPAY_USER', 50)", [(mandate_id,) for mandate_id in MANDATES]
    )
    await connection.executemany(
        "INSERT INTO naive.accounts (mandate_id, user_id, balance) VALUES ($1, $2, 0)",
        [(member.mandate_id, member.user_id) for member in MEMBERS],
    )
    await connection.execute("RESET search_path; ANALYZE naive.settings, naive.accounts")
    children = [
        await Child.start([sys.executable, "-m", "tests.bench.naive", json.dumps(asdict(_Order(dsn, seconds, number)))])
        for number in range(1, workers + 1)
    ]
    for child in children:
        child.tell()
    results = [await child.result() for child in children]
    charged, shown = await connection.fetchrow(
        "SELECT (SELECT sum(amount) FROM naive.transactions), (SELECT -sum(balance) FROM naive.accounts)"
    )
    return NaiveOutcome(
        workers,
        sum(result["events"] for result in results),
        max(result["seconds"] for result in results),
        float(100 * (charged - shown) / charged),
    )


async def _charge(connection: asyncpg.Connection, event: dict[str, Any]) -> None:
    """One event, as the replaced system charges it. That balances are lost here is the point."""
    settings = await connection.fetchrow(
        "SELECT model, markup FROM settings WHERE mandate_id = $1", event["mandate_id"]
    )
    account = await connection.fetchrow(
        "SELECT id, balance FROM accounts WHERE mandate_id = $1 AND user_id = $2", event["mandate_id"], event["user_id"]
    )
    await connection.fetchval("SELECT sum(balance) FROM accounts WHERE mandate_id = $1", event["mandate_id"])
    amount = round(event["cost"] * (100 + settings["markup"]) / 100, 6)
    now = datetime.now(UTC)
    await connection.execute(
        "INSERT INTO transactions (account_id, amount, description, provider, model, feature, workflow_id,"
        " processing_time_ms, bytes_sent, bytes_received, error_count, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        account["id"],
        amount,
        event["description"],
        event["provider"],
        event["model"],
        event["feature_code"],
        event["workflow_id"],
        event["processing_time_ms"],
        event["bytes_sent"],
        event["bytes_received"],
        event["error_count"],
        now,
    )
    await connection.execute(
        "UPDATE accounts SET balance = $2 WHERE id = $1", account["id"], account["balance"] - amount
    )
    await connection.execute(
        "INSERT INTO statistics AS s VALUES ($1, $2, $3, $4, $5, $6, 1)"
        " ON CONFLICT (account_id, day, provider, model, feature)"
        " DO UPDATE SET cost = s.cost + excluded.cost, count = s.count + 1",
        account["id"],
        now.date(),
        event["provider"],
        event["model"],
        event["feature_code"],
        amount,
    )


async def _work(order: _Order) -> dict[str, float]:
    usages = Usages(order.seed)
    events = [usages.body(usages.member()) for _ in range(EVENTS_MAX)]
    prices = random.Random(order.seed)
    for event in events:
        event["cost"] = Decimal(prices.randrange(1, 10**6)).scaleb(-8)
    connection = await asyncpg.connect(order.dsn, server_settings={"search_path": "naive"})
    try:
        tell_ready()
        await asyncio.to_thread(sys.stdin.readline)
        started = time.perf_counter()
        done = 0
        while time.perf_counter() - started < order.seconds:
            await _charge(connection, events[done % EVENTS_MAX])
            done += 1
        return {"events": done, "seconds": time.perf_counter() - started}
    finally:
        await connection.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_work(_Order(**json.loads(sys.argv[1]))))), flush=True)
