"""Looks at the running platform, each thing at its own pace, and puts what it sees into the picture.

Balances and charges come through the public surface, how far the workers are from their metrics, and the totals from
the ledger itself, read only: counters of a worker begin anew when it is started again, the ledger does not.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.errors import StackError
from deploy.simulator.guard import Guard
from deploy.simulator.pay_page import open_pay_page
from deploy.simulator.platform import Platform, operator, person
from deploy.simulator.tenants import OPERATOR, TOP_UP, Tenant
from deploy.simulator.watch.picture import POOL, Account, Audit, Picture, Standing, Totals, Worker
from deploy.simulator.watch.standings import movement_in_words, state_in_words
from services.billing.audit import audit
from services.chassis.clock import AdjustableClock

__all__ = ["Observers"]

_TIMEOUT_S = 5.0
# The surface takes 30 reads a minute of these lists from a person.
_LISTS_EVERY_S = 2.5
_TOTALS_EVERY_S = 1.0
_AUDIT_EVERY_S = 10.0
_AUDIT_TIMEOUT_S = 120.0
_PAY_PAGE_EVERY_S = 10.0
_TRANSACTIONS = 40
# Of these the newest that are not usage; what a tenant had before stays in the view.
_MOVEMENTS = 50
_NO_USAGE = json.dumps({"filters": {"referenceType": ["PAYMENT", "SUBSCRIPTION", "ADMIN"]}})
# How much longer than a look took, the pause after it is at least.
_REST = 4.0

_TOTALS = """
SELECT (SELECT coalesce(sum(cost), 0) FROM billing.rollups) AS micros,
       (SELECT coalesce(sum(count), 0) FROM billing.rollups) AS charges,
       (SELECT count(*) FROM billing.unposted_events
         WHERE reason NOT IN ('FREE', 'CANCELLED', 'CANCELLATION')) AS unpriced,
       ARRAY(SELECT (error_code, count(*)) FROM billing.quarantine WHERE replayed_at IS NULL AND closed_at IS NULL
             GROUP BY error_code ORDER BY error_code) AS refused
"""


class Observers:
    """What keeps a picture up to date."""

    def __init__(
        self,
        picture: Picture,
        *,
        stack: Mapping[str, Any],
        client: httpx.AsyncClient,
        platform: Platform,
        guard: Guard,
    ) -> None:
        self._picture = picture
        self._stack = stack
        self._client = client
        self._platform = platform
        self._guard = guard
        self._clock = AdjustableClock(Path(stack["clock_file"]))
        self._database: asyncpg.Connection | None = None

    def tasks(self) -> list[Awaitable[None]]:
        """Everything that is looked at, each until cancelled."""
        return [
            self._repeat("billing", self._look_at_totals, _TOTALS_EVERY_S),
            self._repeat("workers", self._look_at_workers, _TOTALS_EVERY_S),
            self._repeat("gateway", self._look_at_lists, _LISTS_EVERY_S),
            self._repeat("audit", self._look_at_books, _AUDIT_EVERY_S),
            self._repeat("top-up", self._look_at_pay_page, _PAY_PAGE_EVERY_S),
        ]

    async def close(self) -> None:
        """Disconnect."""
        if self._database is not None:
            await self._database.close(timeout=_TIMEOUT_S)

    async def _repeat(self, name: str, look: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            begin = time.monotonic()
            try:
                await look()
                self._picture.troubles.pop(name, None)
            except (StackError, httpx.HTTPError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                # Whatever is away comes back, or the supervisor says why not; until then the view says so.
                self._picture.troubles[name] = str(error) or type(error).__name__
            # The view never takes more than a small part of what it looks at.
            await asyncio.sleep(max(every_s, _REST * (time.monotonic() - begin)))

    async def _look_at_totals(self) -> None:
        if self._database is None or self._database.is_closed():
            self._database = await self._connect(timeout_s=_TIMEOUT_S)
        row = await self._database.fetchrow(_TOTALS)
        totals = Totals(
            charges=int(row["charges"]),
            amount=Decimal(int(row["micros"])).scaleb(-6),
            dead_letters=dict(row["refused"]),
            unpriced=row["unpriced"],
        )
        self._picture.count(totals, time.monotonic())
        self._picture.ahead_s = self._clock.offset_s

    async def _look_at_workers(self) -> None:
        names = [process for process in self._stack["processes"] if process["name"].startswith("billing-worker-")]
        self._picture.workers = list(await asyncio.gather(*(self._worker(process) for process in names)))

    async def _worker(self, process: Mapping[str, Any]) -> Worker:
        address = process["health"].removesuffix("/readyz") + "/metrics"
        try:
            answer = await self._client.get(address, timeout=_TIMEOUT_S)
            answer.raise_for_status()
        except httpx.HTTPError:
            return Worker(process["name"], None)
        families: Iterable[Any] = text_string_to_metric_families(answer.text)
        samples = [sample for family in families for sample in family.samples]
        behind = [sample.value for sample in samples if sample.name == "rappen_consumer_lag_records"]
        return Worker(process["name"], int(sum(behind)) if behind else None)

    async def _look_at_lists(self) -> None:
        path = f"/api/billing/transactions?limit={_TRANSACTIONS}"
        self._picture.transactions = await self._platform.call("GET", path, operator(OPERATOR))
        movements = await self._movements()
        accounts, standings = [], []
        for tenant in self._picture.tenants:
            if tenant in self._picture.cast:
                # Of the others it is known from before their calls.
                await self._guard.ask_for(tenant)
            held = await self._accounts(tenant)
            accounts += held
            standings.append(await self._standing(tenant, held, movements))
        self._picture.accounts, self._picture.standings = accounts, standings

    async def _movements(self) -> dict[str, str]:
        """How money last moved but for usage, in words by the label of the tenant."""
        path = f"/api/billing/view/users/transactions?limit={_MOVEMENTS}&pagination={_NO_USAGE}"
        rows = list((await self._platform.call("GET", path, operator(OPERATOR)))["items"])
        before = {standing.tenant: standing.movement for standing in self._picture.standings}
        for tenant in self._picture.tenants:
            if tenant.label not in before:
                # Their newest one may be older than all those.
                own = f"{path}&mandateId={tenant.id}"
                rows += (await self._platform.call("GET", own, person(tenant.admin.id)))["items"]
        rows.reverse()
        # Of two at the same time the newer one stays behind.
        rows.sort(key=lambda row: datetime.fromisoformat(row["createdAt"]))
        return {**before, **{row["mandateName"]: movement_in_words(row) for row in rows}}

    async def _standing(self, tenant: Tenant, accounts: list[Account], movements: Mapping[str, str]) -> Standing:
        subscription = await self._platform.call("GET", f"/api/subscriptions/{tenant.id}", person(tenant.admin.id))
        waits = [account.waits for account in accounts]
        return Standing(
            tenant=tenant.label,
            plan=subscription["planKey"] or "-",
            state=state_in_words(subscription, tenant.billing_model),
            balance=sum((account.balance for account in accounts), Decimal(0)),
            warning=any(account.warning for account in accounts),
            waits=waits[0] if waits and all(waits) else None,
            movement=movements.get(tenant.label, ""),
        )

    async def _accounts(self, tenant: Tenant) -> list[Account]:
        """The accounts that are charged: the pool, or in PREPAY_USER the members' own, as their administrator."""
        who = person(tenant.admin.id)
        balance = await self._platform.call("GET", f"/api/billing/balance/{tenant.id}", who)
        rows = await self._platform.call("GET", f"/api/billing/admin/accounts/{tenant.id}", who)
        own = balance["billingModel"] == "PREPAY_USER"
        names = {member.id: member.name for member in tenant.members}
        before = {(account.tenant, account.owner): account.highest for account in self._picture.accounts}
        found = []
        for row in rows:
            if (row["userId"] is not None) != own:
                continue
            owner = names.get(row["userId"], row["userId"]) if own else POOL
            held = Decimal(row["balance"])
            found.append(
                Account(
                    tenant=tenant.label,
                    owner=owner,
                    balance=held,
                    highest=max(held, before.get((tenant.label, owner), held)),
                    warning=held <= row["warningThreshold"],
                    waits=self._waits(tenant, row["userId"]),
                )
            )
        return found

    def _waits(self, tenant: Tenant, user_id: str | None) -> str | None:
        """Why who spends from an account has to wait: the member, or for a pool everybody."""
        users = [user_id] if user_id is not None else [member.id for member in tenant.members]
        reasons = [self._guard.waiting.get((tenant.id, user)) for user in users]
        return reasons[0] if all(reasons) else None

    async def _look_at_books(self) -> None:
        """What `rappen audit` does, without the seconds that a process of its own takes to start."""
        connection = await self._connect(timeout_s=_AUDIT_TIMEOUT_S)
        try:
            checks = await audit(connection)
        finally:
            await connection.close(timeout=_TIMEOUT_S)
        self._picture.audit = Audit(
            at=datetime.now().astimezone(),
            checks=len(checks),
            accounts=max(check.looked_at for check in checks),
            differences=sum(check.failing_count for check in checks),
        )

    async def _connect(self, *, timeout_s: float) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._stack["postgres"]["billing"],
            timeout=_TIMEOUT_S,
            command_timeout=timeout_s,
            server_settings={"default_transaction_read_only": "on", "application_name": "rappen-watch"},
        )

    async def _look_at_pay_page(self) -> None:
        self._picture.pay_page = await open_pay_page(self._platform, self._client, self._stack, TOP_UP)
