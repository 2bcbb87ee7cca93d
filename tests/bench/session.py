"""The servers, the services and the books of one bench: real processes on this machine, and nothing beside them."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from services.billing.charging.charge_usage import GROUP
from services.billing.pricing.import_prices import set_rate
from services.chassis.caller import Caller
from tests.bench.child import Child
from tests.bench.load import TOPIC, LoadOrder
from tests.bench.population import (
    CROWD,
    DEAR_CURRENCY,
    HOT,
    MANDATES,
    MEMBERS,
    MODELS,
    POOL_MANDATES,
    PROBES,
    REFUSED_WORKFLOW,
    Member,
    holds_named,
    instances_of,
)
from tests.support.callers import headers
from tests.support.databases import opened
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess
from tests.support.stack import ROOT, ServerPair
from tests.support.topics import all_read
from tests.support.waiting import eventually

__all__ = ["Session"]

PRICES = ROOT / "deploy" / "simulator" / "prices.json"
RATES = {"USD": Decimal("0.80"), DEAR_CURRENCY: Decimal(100_000)}
PRICES_FROM = datetime(2026, 1, 1, tzinfo=UTC)
CREDIT_CHF = 1_000_000
GRANTS_UNTIL = "2199-01-01T00:00:00Z"
REQUESTS_AT_ONCE = 8
# What may be spent in a month by a member, for a feature instance, at a provider and for a model, in limited runs.
LIMIT_CHF = 100_000_000
HELD_MICRO_CHF = 50_000
HELD_UNTIL = datetime(2199, 1, 1, tzinfo=UTC)


class Session:
    """A stack with prices, a directory and funds; workers come and go with each run, the api stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = ServerPair(folder, disposable=False)
        ceiling = {"BILLING_AMOUNT_MAX_CHF": str(CREDIT_CHF)}
        self.api = ServiceProcess(self.servers, "billing", "api", folder / "api.log", more=ceiling)
        self._seed = 0

    async def start_servers(self) -> None:
        """The servers, without a schema."""
        # The fixture of the tests runs event loops of its own.
        await asyncio.to_thread(self.servers.start, [])

    async def start(self) -> None:
        """The servers and billing's books: schema, prices, members, api, credit for everybody."""
        await self.start_servers()
        await asyncio.to_thread(self.servers.migrate, "billing")
        await self._price()
        async with self.connection() as connection:
            await _enrol(connection, [*MEMBERS, *HOT, *PROBES])
        self.api.start()
        await self.api.ready()
        await self._credit()

    async def stop(self) -> None:
        """Everything, in order."""
        await asyncio.to_thread(self.api.stop)
        await asyncio.to_thread(self.servers.stop)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the database's administrator, which looks at billing's tables."""
        connection = await asyncpg.connect(
            self.servers.admin_dsn, server_settings={"search_path": "billing"}, command_timeout=600
        )
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def refusing_ledger(self) -> AsyncIterator[None]:
        """A ledger that refuses the rows of one workflow: a fault that no check of ours foresees."""
        async with self.connection() as connection:
            await connection.execute(
                "ALTER TABLE transactions ADD CONSTRAINT bench CHECK"
                f" (workflow_id IS DISTINCT FROM '{REFUSED_WORKFLOW}') NOT VALID"
            )
            try:
                yield
            finally:
                await connection.execute("ALTER TABLE transactions DROP CONSTRAINT bench")

    @asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Limits of everything that can be limited, by day and by month, in every mandate; none is ever reached."""
        await self._limit({mandate_id: _limits(mandate_id) for mandate_id in MANDATES})
        try:
            yield
        finally:
            await self._limit(dict.fromkeys(MANDATES, ()))

    @property
    def books(self) -> Books:
        """The ledger from outside."""
        return Books(self.servers.admin_dsn)

    @asynccontextmanager
    async def workers(self, count: int = 2, *, wait: bool = True) -> AsyncIterator[list[ServiceProcess]]:
        """So many billing workers, started and, unless told otherwise, ready; stopped in good order at the end."""
        workers = [self._worker(number) for number in range(1, count + 1)]
        try:
            for worker in workers:
                worker.start()
            if wait:
                await asyncio.gather(*(worker.ready() for worker in workers))
            yield workers
        except Exception as error:
            for worker in workers:
                if not worker.running:
                    error.add_note(f"a worker had ended with {worker.exit_code}:\n{worker.log_tail()}")
            raise
        finally:
            await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in workers))

    def _worker(self, number: int) -> ServiceProcess:
        more = {"BILLING_INSTANCE": str(number)}
        return ServiceProcess(self.servers, "billing", "worker", self.folder / f"worker-{number}.log", more=more)

    async def load(self, count: int, **settings: Any) -> Child:
        """A load process with its events encoded; each has new members, models and quantities. The holds that its
        events name are made before."""
        self._seed += 1
        order = LoadOrder(self.servers.kafka.bootstrap_servers, count, self._seed, **settings)
        if order.settling:
            async with self.connection() as connection:
                await _hold(connection, order)
        return await Child.start(order.command())

    async def settled(self) -> None:
        """Waits until the workers have committed all that was produced, also what leaves no row, such as repeats."""
        bootstrap_servers = self.servers.kafka.bootstrap_servers
        await eventually(lambda: all_read(bootstrap_servers, TOPIC, GROUP), what="the last event")

    async def set_rate(self, currency: str, rate: Decimal) -> None:
        """Sets what a currency costs, of all times."""
        async with opened(self.servers.dsn("billing"), pool_size=1) as database, database.transaction() as connection:
            await set_rate(connection, currency=currency, rate=rate, valid_from=PRICES_FROM, actor="operator")

    async def enrol_crowd(self) -> None:
        """The mandate with many members, each with an account, as `ensure` makes them."""
        async with self.connection() as connection:
            await _enrol(connection, CROWD)
            await connection.execute(
                "INSERT INTO accounts (mandate_no, type, user_id) SELECT m.no, 'USER', s.user_id FROM mandates m"
                " JOIN directory_members s ON s.mandate_id = m.id WHERE m.id = $1",
                CROWD[0].mandate_id,
            )
            await connection.execute("VACUUM ANALYZE accounts, directory_members")

    def caller_header(self, caller: Caller) -> dict[str, str]:
        """The signed context that the gateway would send."""
        return headers(caller, audience="billing", secret=self.servers.secret)

    async def _price(self) -> None:
        command = [sys.executable, "-m", "services.billing", "prices", "import", str(PRICES), "--apply"]
        environment = self.servers.environment("billing", port=1)
        await asyncio.to_thread(
            subprocess.run, command, check=True, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL
        )
        for currency, rate in RATES.items():
            await self.set_rate(currency, rate)

    async def _limit(self, wanted: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        """Puts the limits of mandates in place of those that they have."""
        gate = asyncio.Semaphore(REQUESTS_AT_ONCE)
        administrator = Caller(user_id="operator", system_admin=True)
        signed = self.caller_header(administrator) | {"Content-Type": "application/json"}
        async with httpx.AsyncClient(base_url=self.api.url, headers=signed, trust_env=False, timeout=60.0) as client:

            async def limit(mandate_id: str, limits: Sequence[dict[str, Any]]) -> None:
                async with gate:
                    answer = await client.put(f"/api/billing/admin/limits/{mandate_id}", content=json.dumps(limits))
                    answer.raise_for_status()

            await asyncio.gather(*(limit(*entry) for entry in wanted.items()))

    async def _credit(self) -> None:
        """By the api, so that checks have funds to find: every pool, and every member that has a budget. Each has a
        grant beside, which charges spend first."""
        administrator = Caller(user_id="operator", system_admin=True)
        signed = self.caller_header(administrator) | {"Content-Type": "application/json"}
        pools = set(POOL_MANDATES)
        wanted: list[tuple[str, str | None]] = [(id_, None) for id_ in (*POOL_MANDATES, HOT[0].mandate_id)]
        wanted += [(member.mandate_id, member.user_id) for member in MEMBERS if member.mandate_id not in pools]
        gate = asyncio.Semaphore(REQUESTS_AT_ONCE)
        async with httpx.AsyncClient(base_url=self.api.url, headers=signed, trust_env=False, timeout=30.0) as client:

            async def credit(mandate_id: str, user_id: str | None) -> None:
                async with gate:
                    body = json.dumps({"userId": user_id, "amount": CREDIT_CHF, "description": "Funds"})
                    answer = await client.post(f"/api/billing/admin/credit/{mandate_id}", content=body)
                    answer.raise_for_status()

            async def grant(mandate_id: str) -> None:
                async with gate:
                    amount = {"amount": str(CREDIT_CHF), "currency": "CHF"}
                    body = {"mandateId": mandate_id, "amount": amount, "expiresAt": GRANTS_UNTIL, "reason": "Funds"}
                    answer = await client.post("/api/billing/admin/promotions", content=json.dumps(body))
                    answer.raise_for_status()

            await asyncio.gather(*(credit(*entry) for entry in wanted))
            await asyncio.gather(*(grant(mandate_id) for mandate_id in dict.fromkeys(id_ for id_, _ in wanted)))


def _limits(mandate_id: str) -> list[dict[str, Any]]:
    members = [member for member in MEMBERS if member.mandate_id == mandate_id]
    keys = [("member", member.user_id) for member in members]
    keys += [("feature", instance) for instance in instances_of(mandate_id)]
    keys += [("provider", provider) for provider in sorted({provider for provider, _ in MODELS})]
    keys += [("model", model) for _, model in MODELS]
    limit = {"amount": str(LIMIT_CHF), "currency": "CHF"}
    periods = ("day", "month")
    return [{"kind": kind, "key": key, "period": each, "limit": limit} for kind, key in keys for each in periods]


async def _hold(connection: asyncpg.Connection, order: LoadOrder) -> None:
    """Writes the holds of a load as they stand after the api has made them: open, on the account that pays."""
    await connection.execute("CREATE TEMP TABLE named (mandate_id TEXT, user_id TEXT, id UUID)")
    named = ((member.mandate_id, member.user_id, id_) for member, id_ in holds_named(order.seed, order.count))
    await connection.copy_records_to_table("named", records=named)
    async with connection.transaction():
        await connection.execute(
            "INSERT INTO accounts (mandate_no, type, user_id) SELECT DISTINCT m.no, 'USER', named.user_id"
            " FROM named JOIN mandates m ON m.id = named.mandate_id ON CONFLICT DO NOTHING"
        )
        await connection.execute(
            "INSERT INTO holds (mandate_no, id, account_no, member_account_no, amount, created_at, created_by,"
            " expires_at)"
            " SELECT m.no, named.id, CASE m.billing_model WHEN 'PREPAY_USER' THEN own.no ELSE pool.no END, own.no, $1,"
            " now(), 'publisher', $2 FROM named JOIN mandates m ON m.id = named.mandate_id"
            " JOIN accounts own ON own.mandate_no = m.no AND own.type = 'USER' AND own.user_id = named.user_id"
            " JOIN accounts pool ON pool.mandate_no = m.no AND pool.type = 'MANDATE'",
            HELD_MICRO_CHF,
            HELD_UNTIL,
        )
        await connection.execute(
            "UPDATE accounts a SET held = a.held + made.amount, held_changes = a.held_changes + 1"
            " FROM (SELECT h.mandate_no, h.account_no, sum(h.amount)::bigint AS amount"
            " FROM named JOIN holds h ON h.id = named.id GROUP BY 1, 2) made"
            " WHERE a.mandate_no = made.mandate_no AND a.no = made.account_no"
        )
    await connection.execute("VACUUM ANALYZE holds, accounts")


async def _enrol(connection: asyncpg.Connection, members: Sequence[Member]) -> None:
    """Writes the directory and the billing models as they stand after the directory's events were applied."""
    mandates = sorted({member.mandate_id for member in members})
    own_budget = set(MANDATES) - set(POOL_MANDATES)
    await connection.copy_records_to_table(
        "directory_mandates",
        records=[(id_, id_[:8], id_[:8], True, False, 1) for id_ in mandates],
        columns=["id", "name", "label", "enabled", "is_system", "version"],
    )
    await connection.copy_records_to_table(
        "directory_users",
        records=[(member.user_id, member.user_id[:8], member.user_id[:8], True, 1) for member in members],
        columns=["id", "username", "display_name", "enabled", "version"],
    )
    await connection.copy_records_to_table(
        "directory_members",
        records=[(member.mandate_id, member.user_id, ["member"], True, 1) for member in members],
        columns=["mandate_id", "user_id", "roles", "enabled", "version"],
    )
    await connection.copy_records_to_table(
        "mandates",
        records=[(id_, "PREPAY_USER" if id_ in own_budget else "PREPAY_MANDATE") for id_ in mandates],
        columns=["id", "billing_model"],
    )
    await connection.execute(
        "INSERT INTO audit_log (mandate_no, actor, action, after, at)"
        " SELECT no, 'operator', 'model', jsonb_build_object('billingModel', billing_model), now() FROM mandates"
        " WHERE billing_model = 'PREPAY_USER' AND id = ANY($1)",
        mandates,
    )
