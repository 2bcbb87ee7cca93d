"""Servers of this folder alone, a billing api process, and a directory that knows a few people."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from services.billing.ledger.domain import BillingModel
from services.billing.mandates.apply_directory import ApplyDirectory
from services.chassis.caller import Caller
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.support.callers import headers, system_admin
from tests.support.databases import opened
from tests.support.directory import directory_events
from tests.support.events import new_mandate
from tests.support.processes import ServiceProcess
from tests.support.stack import ServerPair


@dataclass
class BillingApi:
    """HTTP at the billing api as somebody."""

    client: httpx.AsyncClient
    secret: str
    database: Database

    async def call(self, caller: Caller | None, method: str, path: str, **request: Any) -> httpx.Response:
        """One request; without a caller it carries no context."""
        given = {} if caller is None else headers(caller, audience="billing", secret=self.secret)
        if "content" in request:
            given["Content-Type"] = "application/json"
        return await self.client.request(method, path, headers={**given, **request.pop("headers", {})}, **request)

    async def directory(self, mandate: str, members: dict[str, list[str]], **more: Any) -> None:
        """Tells billing about a mandate and its members, as the gateway's events would."""
        await ApplyDirectory(self.database, clock=system_clock)(directory_events(mandate, members, **more), [])

    async def switch(self, mandate: str, model: BillingModel) -> None:
        """Switches a mandate's billing model."""
        path = f"/api/billing/admin/model/{mandate}"
        answer = await self.call(system_admin(), "POST", path, json={"billingModel": model})
        assert answer.status_code == 200, answer.text

    async def price(self, model: str, input_price: str) -> None:
        """Gives a model of anthropic a price in CHF for each token of input."""
        prices = [{"prices": {"input": input_price}}]
        entry = {"provider": "anthropic", "model": model, "currency": "CHF", "valid_from": "2026-01-01T00:00:00Z"}
        file = {"format": "rappen.prices.v1", "prices": [{**entry, "lists": prices}]}
        path, params = "/api/billing/admin/prices", {"format": "rappen"}
        answer = await self.call(system_admin(), "POST", path, content=json.dumps(file), params=params)
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    """Tests here audit all books hundreds of times, which takes minutes beside what tests with load leave behind: those
    are in `under_load`, which comes last, and in a process of its own where there are several."""
    with ServerPair(tmp_path_factory.mktemp("servers")).running(["billing"]) as pair:
        yield pair


@pytest.fixture(scope="package")
async def database(servers: ServerPair) -> AsyncIterator[Database]:
    async with opened(servers.dsn("billing"), pool_size=4) as database:
        yield database


@pytest.fixture(scope="package")
async def api(
    servers: ServerPair, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[BillingApi]:
    async with ServiceProcess(servers, "billing", "api", tmp_path_factory.mktemp("log") / "api.log") as process:
        async with httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=20) as client:
            yield BillingApi(client, servers.secret, database)


@pytest.fixture
async def mandate(api: BillingApi) -> str:
    """A mandate with an administrator and two members."""
    made = new_mandate()
    await api.directory(made, {"admin-1": ["admin"], "user-1": ["member"], "user-2": ["member"]})
    return made
