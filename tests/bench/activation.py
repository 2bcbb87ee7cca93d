"""Activations of feature instances that are paid at once, as a frontend asks for them: through the gateway, upon a
whole stack with the fake Stripe. An answer says that the instance is provisioned and paid."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.bench.cpu import CpuMeter, CpuUse
from tests.bench.figures import latency_text, met
from tests.bench.measure import Latency
from tests.e2e.machine import Machine
from tests.support.waiting import wait_until

__all__ = ["Activated", "activations"]

ACTIVATION_P99_MS = 1_000.0
# Each mandate's administrator activates one instance after the other; as many as there are mandates at once.
MANDATES = 2
PLAN, FEATURE = "ENTERPRISE", "chat"
RETURN_URL = "http://localhost:5173/plans"
# Not measured yet: products, prices, connections and plans of statements come into being.
WARM_UP_S = 5.0


@dataclass(frozen=True, slots=True)
class Activated:
    """Activations that were measured, each from the request to its answer."""

    latency: Latency
    at_once: int
    cpu: CpuUse

    def rows(self) -> list[tuple[str, ...]]:
        """The row of the page."""
        what = f"activation that is paid at once, {self.at_once} at a time"
        target = f"p99 < {ACTIVATION_P99_MS:,.0f} ms"
        return [("F5", what, target, latency_text(self.latency), met(self.latency.p99_ms < ACTIVATION_P99_MS))]

    def uses(self) -> list[tuple[str, CpuUse, int]]:
        """An activation's share."""
        return [("activations", self.cpu, self.latency.count)]


@dataclass(frozen=True, slots=True)
class _Tenant:
    mandate_id: str
    token: str


async def activations(seconds: float) -> Activated:
    """Starts a stack, has the mandates pay for a plan, and activates instances in each for so long."""
    home = Path(tempfile.mkdtemp(prefix="rappen-bench-"))
    machine = Machine(home)
    try:
        await asyncio.to_thread(machine.succeed, "up", "--detach", "--empty", "--no-limits", "--workers", "1")
        tenants = [await asyncio.to_thread(_subscribed, machine, number) for number in range(MANDATES)]
        await _activate(machine, tenants, WARM_UP_S)
        meter = CpuMeter(_pids(machine))
        latencies = await _activate(machine, tenants, seconds)
        return Activated(Latency.of(latencies), MANDATES, meter.read())
    finally:
        await asyncio.to_thread(machine.close)
        shutil.rmtree(home)


async def _activate(machine: Machine, tenants: Sequence[_Tenant], seconds: float) -> list[float]:
    """The milliseconds of each activation; raises where one is refused, or is not in use afterwards."""
    url = f"{machine.stack['gateway']}/api/store/activate"
    async with httpx.AsyncClient(trust_env=False, timeout=15) as http:

        async def in_use(tenant: _Tenant) -> int:
            answer = await http.get(
                f"{machine.stack['gateway']}/api/store/subscription-info",
                params={"mandateId": tenant.mandate_id},
                headers={"Authorization": f"Bearer {tenant.token}"},
            )
            return int(answer.raise_for_status().json()["currentFeatureInstances"])

        async def one_after_the_other(tenant: _Tenant) -> list[float]:
            used = await in_use(tenant)
            taken: list[float] = []
            until = time.perf_counter() + seconds
            while (began := time.perf_counter()) < until:
                answer = await http.post(
                    url,
                    json={"featureCode": FEATURE, "mandateId": tenant.mandate_id},
                    headers={"Authorization": f"Bearer {tenant.token}"},
                )
                taken.append(1e3 * (time.perf_counter() - began))
                if answer.status_code != httpx.codes.OK:
                    raise RuntimeError(f"not activated: {answer.status_code} {answer.text}")
            if await in_use(tenant) != used + len(taken):
                raise RuntimeError(f"{len(taken)} were activated beside {used}, and are not all in use")
            return taken

        return [each for taken in await asyncio.gather(*map(one_after_the_other, tenants)) for each in taken]


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
