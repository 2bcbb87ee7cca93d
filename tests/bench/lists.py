"""Lists of transactions upon a large ledger: pages, search, filters, orders, distinct values, and the export."""

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import httpx

from services.chassis.caller import Caller
from tests.bench.cpu import CpuMeter, CpuUse
from tests.bench.large_ledger import LARGE, MEMBERS, MODELS
from tests.bench.large_stack import LargeStack, asked
from tests.bench.measure import Latency, memory_peak_mb

__all__ = ["Exported", "Listed", "export_large", "list_large"]

USERS = "/api/billing/view/users/transactions"
# The first of each warm up.
WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Listed:
    """Requests of each kind, and the CPU of all of them."""

    latencies: Mapping[str, Latency]
    cpu: CpuUse
    requests: int


@dataclass(frozen=True, slots=True)
class Exported:
    """One export: how many lines, and by how much the process that answered has grown (MB)."""

    lines: int
    per_second: float
    grown_mb: float


async def list_large(stack: LargeStack, repeats: int) -> Listed:
    """So many requests of each kind, by turns, each with other values."""
    chance, found, requests = random.Random(3), dict[str, list[float]](), 0
    async with stack.api() as (api, client):
        meter = CpuMeter({"api": [api.pid], "postgres": [stack.servers.postgres.pid]})
        for number in range(repeats + WARM_UP):
            for name, (caller, path, params) in _requests(chance, stack.middle).items():
                elapsed = await asked(client, path, params, stack.signed(caller))
                requests += 1
                if number >= WARM_UP:
                    found.setdefault(name, []).append(elapsed)
        use = meter.read()
    return Listed({name: Latency.of(milliseconds) for name, milliseconds in found.items()}, use, requests)


async def export_large(stack: LargeStack) -> dict[str, Exported]:
    """All rows of the large mandate, from the billing api and through a gateway."""
    async with stack.api() as (api, client):
        signed = stack.signed(Caller(user_id="boss", mandates={LARGE: True}))
        # A first one, of a member, lets modules, connection and plans come into being.
        member = stack.signed(Caller(user_id=f"{LARGE}-u1", mandates={LARGE: False}))
        await _export(client, api.pid, member)
        found = {"from the billing api": await _export(client, api.pid, signed)}
        async with stack.gateway(api) as (gateway, operator):
            await asked(operator, USERS, {"mandateId": LARGE}, {})
            found["through the gateway"] = await _export(operator, gateway.pid, {})
    for name, each in found.items():
        if abs(each.lines - stack.size.large) > MEMBERS:
            raise RuntimeError(f"the export {name} has {each.lines:,} lines of {stack.size.large:,}")
    return found


async def _export(client: httpx.AsyncClient, pid: int, signed: Mapping[str, str]) -> Exported:
    before, lines, begun = memory_peak_mb(pid), -1, time.perf_counter()
    async with client.stream("GET", f"{USERS}/export", params={"mandateId": LARGE}, headers=signed) as answer:
        if answer.status_code != 200:
            raise RuntimeError(f"export: {answer.status_code} {await answer.aread()!r}")
        async for piece in answer.aiter_raw():
            lines += piece.count(b"\r\n")
    return Exported(lines, lines / (time.perf_counter() - begun), memory_peak_mb(pid) - before)


def _requests(chance: random.Random, middle: date) -> dict[str, tuple[Caller, str, dict[str, Any]]]:
    admin = Caller(user_id="boss", mandates={LARGE: True})
    user = f"{LARGE}-u{chance.randrange(MEMBERS)}"
    member = Caller(user_id=user, mandates={LARGE: False})
    operator = Caller(user_id="root", system_admin=True)
    provider, model = chance.choice(MODELS)
    # Of 65,536 each, as a person begins to type one.
    workflows = f"workflow-{chance.getrandbits(16):04x}"
    day = (middle + timedelta(days=chance.randrange(100))).isoformat()

    def listed(**pagination: Any) -> dict[str, Any]:
        return {"pagination": json.dumps(pagination)}

    by_amount = [{"field": "amount", "direction": chance.choice(["asc", "desc"])}]
    values = f"{USERS}/filter-values"
    return {
        "first page": (admin, USERS, listed()),
        "page 1,000": (admin, USERS, listed(page=1_000 - chance.randrange(5))),
        "search of a model": (admin, USERS, listed(search=model[:6])),
        "search of a member": (admin, USERS, listed(search=user)),
        "search of workflows": (admin, USERS, listed(search=workflows)),
        "filter by workflow": (admin, USERS, listed(filters={"workflowId": f"{workflows}{0:012x}"})),
        "filter by provider": (admin, USERS, listed(filters={"aicoreProvider": provider})),
        "filter by member": (admin, USERS, listed(filters={"userId": user})),
        "filter by day": (admin, USERS, listed(filters={"createdAt": day})),
        "sorted by amount": (admin, USERS, listed(sort=by_amount)),
        "values of provider": (admin, values, {"column": "aicoreProvider"}),
        "values of featureCode": (admin, values, {"column": "featureCode"}),
        "values of userName": (admin, values, {"column": "userName"}),
        "values of createdAt": (admin, values, {"column": "createdAt"}),
        "a member's own": (member, USERS, listed()),
        "the operator's, all mandates": (operator, USERS, listed()),
    }
