"""What well-behaved AI services do before a call: ask whether the member may spend."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from deploy.simulator.platform import Platform, PlatformError, service_account
from deploy.simulator.tenants import Tenant
from deploy.simulator.traffic import Membership

__all__ = ["Guard"]

_AS = service_account("demo-simulator", "usage:check")
_ESTIMATE = {"amount": "0.010000", "currency": "CHF"}
_EVERY_S = 5.0
_FIRST_ANSWER_S = 60.0


class Guard:
    """Asks for every member now and then, and knows who has to wait and why.

    Real services ask before each call. Here the answer of a few seconds ago does, so that the simulated traffic is
    usage events and not checks; and while the platform cannot be asked, the last answer holds.
    """

    def __init__(self, platform: Platform, memberships: Sequence[Membership]) -> None:
        self._platform = platform
        self._memberships = memberships
        # Reason by mandate and user, of those who may not spend.
        self.waiting: dict[tuple[str, str], str] = {}

    async def ask(self) -> None:
        """Ask once, patiently; `PlatformError` when there is no answer at all."""
        for membership in self._memberships:
            await self._ask(membership, patience_s=_FIRST_ANSWER_S)

    async def ask_for(self, tenant: Tenant) -> None:
        """Ask now for the members of one tenant; `PlatformError` when there is no answer."""
        for member in tenant.members:
            await self._ask(Membership(tenant, member), patience_s=0)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                for membership in self._memberships:
                    await self._ask(membership, patience_s=0)
            except PlatformError:
                # Nothing to report: the view shows what is away, and usage that happens is charged when it is back.
                continue

    async def _ask(self, membership: Membership, *, patience_s: float) -> None:
        key = (membership.tenant.id, membership.member.id)
        body = {"mandateId": membership.tenant.id, "userId": membership.member.id, "estimatedCost": _ESTIMATE}
        answer = await self._platform.call("POST", "/api/billing/check", _AS, body=body, patience_s=patience_s)
        if answer["allowed"]:
            self.waiting.pop(key, None)
        else:
            self.waiting[key] = answer["reason"]
