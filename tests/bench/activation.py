"""Activations of feature instances that are paid at once, as frontends ask for them: through the gateway, upon a whole
stack with the fake Stripe. An answer says that the instance is provisioned and paid.

The load is open: an activation is asked for at its time whether or not earlier ones were answered, and its latency
counts from then. Every half second one mandate of several activates an instance, in turns; and every few seconds one
further mandate activates several at the same moment, which its limit, its lock and its one subscription at Stripe have
to take one after the other. What each of them causes beside its answer, Stripe's events and the mails above all, goes
on at the same time and on the same cores, the fake Stripe and the servers among it.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.bench.cpu import CpuMeter, CpuUse
from tests.bench.figures import latency_text, met
from tests.bench.measure import Latency
from tests.e2e.machine import Machine
from tests.support.waiting import wait_until

__all__ = ["Activated", "activations"]

ACTIVATION_P99_MS = 1_000.0
# One after the other, by the mandates in turns.
PER_S = 2.0
MANDATES = 6
# At the same moment, by one further mandate.
TOGETHER = 3
TOGETHER_EVERY_S = 3.0
PLAN, FEATURE = "ENTERPRISE", "chat"
RETURN_URL = "http://localhost:5173/plans"
# Not measured yet: products, prices, connections and plans of statements come into being.
WARM_UP_S = 5.0


@dataclass(frozen=True, slots=True)
class Activated:
    """Activations that were measured, each from its time to its answer."""

    in_turns: Latency
    together: Latency
    cpu: CpuUse

    def rows(self) -> list[tuple[str, ...]]:
        """The rows of the page."""
        kinds = (
            (f"activation that is paid at once, {PER_S:g}/s by {MANDATES} mandates", self.in_turns),
            (f"the same beside that, {TOGETHER} of one mandate at the same moment", self.together),
        )
        target = f"p99 < {ACTIVATION_P99_MS:,.0f} ms"
        return [
            ("F5", what, target, latency_text(latency), met(latency.p99_ms < ACTIVATION_P99_MS))
            for what, latency in kinds
        ]

    def uses(self) -> list[tuple[str, CpuUse, int]]:
        """An activation's share."""
        return [("activations", self.cpu, self.in_turns.count + self.together.count)]


@dataclass(frozen=True, slots=True)
class _Tenant:
    mandate_id: str
    token: str


class _Asked(NamedTuple):
    """An activation of the load; `at_s` counts from its beginning."""

    at_s: float
    tenant: _Tenant
    together: bool


async def activations(seconds: float) -> Activated:
    """Starts a stack, has the mandates pay for a plan, and activates instances in each for so long."""
    home = Path(tempfile.mkdtemp(prefix="rappen-bench-"))
    machine = Machine(home)
    try:
        await asyncio.to_thread(machine.succeed, "up", "--detach", "--empty", "--no-limits", "--workers", "1")
        tenants = [await asyncio.to_thread(_subscribed, machine, number) for number in range(MANDATES + 1)]
        await _activate(machine, tenants, WARM_UP_S)
        meter = CpuMeter(_pids(machine))
        taken = await _activate(machine, tenants, seconds)
        return Activated(Latency.of(taken[False]), Latency.of(taken[True]), meter.read())
    finally:
        await asyncio.to_thread(machine.close)
        shutil.rmtree(home)


def _load(tenants: Sequence[_Tenant], seconds: float) -> Iterator[_Asked]:
    """Who asks when; the last mandate is the one that asks for several at the same moment."""
    *in_turns, busy = tenants
    for number in range(int(PER_S * seconds)):
        yield _Asked(number / PER_S, in_turns[number % len(in_turns)], together=False)
    for number in range(int(seconds / TOGETHER_EVERY_S)):
        yield from [_Asked(number * TOGETHER_EVERY_S, busy, together=True)] * TOGETHER


async def _activate(machine: Machine, tenants: Sequence[_Tenant], seconds: float) -> dict[bool, list[float]]:
    """The milliseconds of each activation, by whether it was one of several; raises where one is refused, or is not in
    use afterwards."""
    load = list(_load(tenants, seconds))
    taken: dict[bool, list[float]] = {False: [], True: []}
    async with httpx.AsyncClient(base_url=machine.stack["gateway"], trust_env=False, timeout=15) as http:
        used = [await _in_use(http, tenant) for tenant in tenants]
        began = time.perf_counter()

        async def ask(asked: _Asked) -> None:
            due = began + asked.at_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            answer = await http.post(
                "/api/store/activate",
                json={"featureCode": FEATURE, "mandateId": asked.tenant.mandate_id},
                headers={"Authorization": f"Bearer {asked.tenant.token}"},
            )
            taken[asked.together].append(1e3 * (time.perf_counter() - due))
            if answer.status_code != httpx.codes.OK:
                raise RuntimeError(f"not activated: {answer.status_code} {answer.text}")

        await asyncio.gather(*map(ask, load))
        for tenant, before in zip(tenants, used, strict=True):
            new = sum(asked.tenant == tenant for asked in load)
            if await _in_use(http, tenant) != before + new:
                raise RuntimeError(f"{new} were activated beside {before}, and are not all in use")
    return taken


async def _in_use(http: httpx.AsyncClient, tenant: _Tenant) -> int:
    answer = await http.get(
        "/api/store/subscription-info",
        params={"mandateId": tenant.mandate_id},
        headers={"Authorization": f"Bearer {tenant.token}"},
    )
    return int(answer.raise_for_status().json()["currentFeatureInstances"])


def _subscribed(machine: Machine, number: int) -> _Tenant:
    """A mandate whose plan is paid and charged by items."""
    mandate_id, user = f"bench-{number}", f"bench-admin-{number}"
    operator = machine.token("--user", "bench-operator", "--system-admin")
    for path, body in (
        (f"mandates/{mandate_id}", {"name": mandate_id, "label": mandate_id}),
        (f"users/{user}", {"username": user}),
        (f"memberships/{mandate_id}/{user}", {"roles": ["admin"]}),
    ):
        machine.call("PUT", f"/api/directory/{path}", operator, body)
    token = machine.token("--user", user)
    subscription = f"/api/subscriptions/{mandate_id}"
    started = machine.call("POST", subscription, token, {"planKey": PLAN, "returnUrl": RETURN_URL})
    control = f"{machine.stack['stripe']}/_control/checkout/sessions"
    (session,) = [each for each in machine.http("GET", control).json() if each["url"] == started["redirectUrl"]]
    machine.http("POST", f"{control}/{session['id']}/pay", {"outcome": "paid"}).raise_for_status()

    def offered() -> bool:
        (feature,) = [
            each for each in machine.call("GET", "/api/store/features", token) if each["featureCode"] == FEATURE
        ]
        return bool(feature["canActivate"])

    wait_until(offered, what="the paid plan", timeout_s=60)
    return _Tenant(mandate_id, token)


def _pids(machine: Machine) -> dict[str, list[int]]:
    return {process["name"]: [process["pid"]] for process in machine.stack["processes"]}
