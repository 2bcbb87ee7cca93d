"""A database that stands still: connections stay open and nothing is answered. Callers are told so in bounded time."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import stripe

from services.billing.ledger.domain import hold_id
from services.billing.mandates.apply_directory import ApplyDirectory
from services.chassis.caller import Caller
from services.chassis.clock import system_clock
from tests.support.callers import headers, member_of, system_admin
from tests.support.databases import opened
from tests.support.directory import directory_events
from tests.support.events import new_mandate, publish, stream
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.ledger import Books
from tests.support.processes import SHORT_SESSION, ServiceProcess, all_ready
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

# New checks come for so long, and the server stands still until the last of them is answered.
ASKING_S = 10.0
# Everybody is answered in half of this where the machine has nothing else to do.
ANSWER_S = 20.0
CHECKS_PER_SECOND = 20
RECOVERY_S = 60.0
GROWTH_BYTES_MAX = 64 * 1024 * 1024
SECRET = "whsec_of_the_tests"


class Platform:
    """All four services and the gateway upon the session's servers."""

    def __init__(self, servers: ServerPair, folder: Path) -> None:
        more = {
            "payments": {"PAYMENTS_STRIPE__WEBHOOK_SECRETS": f'["{SECRET}"]'},
            "billing": SHORT_SESSION,
        }
        self.issuer = Issuer(folder)
        self.services = {
            name: ServiceProcess(servers, service, role, folder / f"{name}.log", more=more.get(service), anew=True)
            for name, service, role in (
                ("billing", "billing", "api"),
                ("worker", "billing", "worker"),
                ("payments", "payments", "api"),
                ("subscriptions", "subscriptions", "api"),
            )
        }
        self.gateway = GatewayProcess(servers, self.issuer, self.services, folder)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator["Platform"]:
        async with all_ready(*self.services.values()), self.gateway:
            yield self
            assert all(service.running for service in self.services.values())

    @property
    def health_urls(self) -> list[str]:
        return [*(service.url for service in self.services.values()), self.gateway.internal_url]


@contextmanager
def standing_still(servers: ServerPair) -> Iterator[None]:
    """Stops every process of the server where it is; sockets stay open."""
    pids = _family(servers.postgres.pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def _family(parent: int) -> list[int]:
    """A process and its children; the parent first, so that it makes no more of them."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [parent, *(int(child) for child in children)]


class Seen:
    """Answers of one kind of request: how long each took, and its status."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.slowest_s = 0.0

    async def ask(self, request: Callable[[], Awaitable[httpx.Response]]) -> None:
        started = time.monotonic()
        answer = await request()
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        self.statuses.append(answer.status_code)


@pytest.fixture
async def platform(servers: ServerPair, tmp_path: Path) -> AsyncIterator[Platform]:
    for service in ("gateway", "payments", "subscriptions"):
        await asyncio.to_thread(servers.migrate, service)
    async with Platform(servers, tmp_path).at_work() as running:
        yield running


async def test_everybody_is_answered_in_time_and_everything_works_again_afterwards(
    servers: ServerPair, platform: Platform, bootstrap_servers: str, books: Books
) -> None:
    mandate = new_mandate()
    await _known_to_billing(servers, mandate)
    events, ids = stream([mandate], 200)
    limits = httpx.Limits(max_connections=2_000)
    async with httpx.AsyncClient(timeout=ANSWER_S + 10, trust_env=False, limits=limits) as client:
        check = _check(client, platform, mandate)
        assert (await check()).status_code == 200
        billing = platform.services["billing"]
        memory = billing.memory_bytes()
        with standing_still(servers):
            until = time.monotonic() + ASKING_S
            checks, others = Seen(), _routes(client, servers, platform, mandate)
            publishing = asyncio.create_task(publish(bootstrap_servers, events))
            seen = {name: Seen() for name in others}
            asking = [asyncio.create_task(seen[name].ask(request)) for name, request in others.items()]
            asking += [asyncio.create_task(seen[name].ask(request)) for name, request in others.items()]
            while time.monotonic() < until:
                asking.append(asyncio.create_task(checks.ask(check)))
                await asyncio.sleep(1 / CHECKS_PER_SECOND)
            await _health(client, platform, ready=False)
            await asyncio.gather(publishing, *asking)
            grown = billing.memory_bytes() - memory
        back = time.monotonic()
        assert set(checks.statuses) == {503}
        assert checks.slowest_s < ANSWER_S
        assert {name: set(route.statuses) for name, route in seen.items()} == {name: {503} for name in others}
        assert max(route.slowest_s for route in seen.values()) < ANSWER_S
        assert grown < GROWTH_BYTES_MAX
        await _works_again(client, platform, check, others)
        await books.wait_charged([mandate], len(ids), timeout_s=RECOVERY_S)
        assert time.monotonic() - back < RECOVERY_S
    await books.settled([mandate], ids)
    assert await books.refused(mandate) == {}


def _check(client: httpx.AsyncClient, platform: Platform, mandate: str) -> Callable[[], Awaitable[httpx.Response]]:
    body = {"mandateId": mandate, "userId": "user-1", "estimatedCost": {"amount": "1", "currency": "CHF"}}
    signed = platform.issuer.service_account("usage:check")
    return lambda: client.post(f"{platform.gateway.url}/api/billing/check", json=body, headers=signed)


def _routes(
    client: httpx.AsyncClient, servers: ServerPair, platform: Platform, mandate: str
) -> Mapping[str, Callable[[], Awaitable[httpx.Response]]]:
    """A request to each service and to the gateway's own database, of either way to reach a database."""
    root = platform.issuer.person("root", system_admin=True)
    url = platform.gateway.url

    def at(service: str, caller: Caller) -> dict[str, str]:
        return headers(caller, audience=service, secret=servers.secret)

    return {
        "gateway scope": lambda: client.get(f"{url}/api/billing/balance/{mandate}", headers=root),
        "gateway change": lambda: client.put(
            f"{url}/api/directory/mandates/{mandate}", json={"name": "m", "label": "M", "enabled": True}, headers=root
        ),
        "billing read": lambda: client.get(
            f"{platform.services['billing'].url}/api/billing/transactions", headers=at("billing", member_of(mandate))
        ),
        "billing credit": lambda: client.post(
            f"{platform.services['billing'].url}/api/billing/admin/credit/{mandate}",
            json={"amount": 1},
            headers=at("billing", system_admin()),
        ),
        "billing model": lambda: client.post(
            f"{platform.services['billing'].url}/api/billing/admin/model/{mandate}",
            json={"billingModel": "UNLIMITED"},
            headers=at("billing", system_admin()),
        ),
        "billing hold": lambda: client.post(
            f"{url}/api/billing/holds",
            json={"mandateId": mandate, "userId": "user-1", "estimatedCost": {"amount": "1", "currency": "CHF"}},
            headers=platform.issuer.service_account("usage:check"),
        ),
        "billing capture": lambda: client.post(
            f"{url}/api/billing/holds/{hold_id(1, uuid4())}/capture",
            json={"cost": {"amount": "1", "currency": "CHF"}},
            headers=platform.issuer.service_account("usage:write"),
        ),
        "subscriptions read": lambda: client.get(
            f"{platform.services['subscriptions'].url}/api/subscriptions/{mandate}",
            headers=at("subscriptions", member_of(mandate)),
        ),
        "stripe": lambda: _webhook(client, platform),
    }


async def _webhook(client: httpx.AsyncClient, platform: Platform) -> httpx.Response:
    body = b'{"id": "evt_standstill", "type": "x", "livemode": false, "data": {"object": {"object": "y", "id": "z"}}}'
    signature = stripe.WebhookSignature.generate_signature_header(body.decode(), SECRET)
    return await client.post(
        f"{platform.services['payments'].url}/api/billing/webhook/stripe",
        content=body,
        headers={"Stripe-Signature": signature, "Content-Type": "application/json"},
    )


async def _health(client: httpx.AsyncClient, platform: Platform, *, ready: bool) -> None:
    """Every process says that it lives, and whether it is ready."""
    for url in platform.health_urls:
        assert (await client.get(f"{url}/healthz", timeout=15)).status_code == 200
        assert ((await client.get(f"{url}/readyz", timeout=15)).status_code == 200) is ready, url


async def _works_again(
    client: httpx.AsyncClient,
    platform: Platform,
    check: Callable[[], Awaitable[httpx.Response]],
    others: Mapping[str, Callable[[], Awaitable[httpx.Response]]],
) -> None:
    async def answers(request: Callable[[], Awaitable[httpx.Response]]) -> bool:
        # A model that is set already is no fault of the database, nor a hold without money or one that is not there.
        return (await request()).status_code in (200, 201, 402, 404, 409)

    async def ready() -> bool:
        states = [await client.get(f"{url}/readyz", timeout=15) for url in platform.health_urls]
        return all(state.status_code == 200 for state in states)

    await eventually(ready, timeout_s=RECOVERY_S, what="readiness")
    for name, request in {"check": check, **others}.items():
        await eventually(partial(answers, request), timeout_s=RECOVERY_S, what=name)


async def _known_to_billing(servers: ServerPair, mandate: str) -> None:
    events = directory_events(mandate, {"user-1": ["member"]})
    async with opened(servers.dsn("billing"), pool_size=1) as database:
        await ApplyDirectory(database, clock=system_clock)(events, [])
