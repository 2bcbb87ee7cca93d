"""Checks as publishers ask them: through the gateway, with a token, one gateway process in front of the billing api.

Saturated, each of some connections asks its next check as soon as its last one is answered; at a rate, checks are due
at their time whether or not earlier ones were answered.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.bench.checks import CheckOrder
from tests.bench.child import Child
from tests.bench.cpu import CpuMeter, CpuUse
from tests.bench.measure import Latency
from tests.bench.session import Session
from tests.support.gateway import GatewayProcess, Issuer

__all__ = ["RATE_PER_S", "GatewayChecked", "checks_through_gateway"]

RATE_PER_S = 500.0
CONNECTIONS = 32
# Not measured yet: connections, tokens, plans and caches come into being.
WARM_UP_S = 2.0
# How many checks a second a saturated run is made for: a faster gateway has a shorter one.
SATURATED_PER_S = 2_000.0
SCOPE = "usage:check"


@dataclass(frozen=True, slots=True)
class GatewayChecked:
    """Checks through one gateway process. The CPU is that of `asked` checks, the unmeasured first ones included."""

    per_second: float
    latency: Latency
    outcomes: Mapping[str, int]
    cpu: CpuUse
    asked: int


async def checks_through_gateway(session: Session, seconds: float) -> tuple[GatewayChecked, GatewayChecked]:
    """The gateway saturated, and at `RATE_PER_S`; about so long each."""
    async with _gateway(session) as (gateway, token):
        saturated = await _ask(session, gateway, token, seconds, rate=None)
        return saturated, await _ask(session, gateway, token, seconds, rate=RATE_PER_S)


@asynccontextmanager
async def _gateway(session: Session) -> AsyncIterator[tuple[GatewayProcess, str]]:
    """A gateway in front of the session's api, and the `Authorization` of a service account that may check."""
    await asyncio.to_thread(session.servers.migrate, "gateway")
    issuer = Issuer(session.folder)
    # Checks go to billing alone.
    peers = dict.fromkeys(("billing", "payments", "subscriptions"), session.api)
    async with GatewayProcess(session.servers, issuer, peers, session.folder, role="api") as gateway:
        claims: dict[str, Any] = {"sub": "service:bench", "scope": SCOPE, "exp": int(time.time()) + 24 * 3600}
        yield gateway, f"Bearer {issuer.token(claims)}"


async def _ask(
    session: Session, gateway: GatewayProcess, token: str, seconds: float, *, rate: float | None
) -> GatewayChecked:
    per_s = rate or SATURATED_PER_S
    count, warm_up = int(per_s * seconds), int(per_s * WARM_UP_S)
    order = CheckOrder(gateway.port, "Authorization", token, count, rate, warm_up, CONNECTIONS)
    checking = await Child.start(order.command())
    pids = {"gateway": [gateway.pid], "api": [session.api.pid], "postgres": [session.servers.postgres.pid]}
    meter = CpuMeter(pids)
    checking.tell()
    checked = await checking.result()
    use = meter.read({"checks": checked["cpu_s"]})
    latency = Latency(**checked["latency"])
    return GatewayChecked(checked["answered_per_s"], latency, checked["outcomes"], use, count + warm_up)
