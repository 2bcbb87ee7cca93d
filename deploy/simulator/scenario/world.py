"""What the steps of the scenario do and look at: the public surface, the payers, and the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from deploy.local.clock import StackClock
from deploy.local.errors import StackError
from deploy.local.home import find_home
from deploy.simulator.platform import Platform, PlatformError, operator, person, service_account
from deploy.simulator.scenario.payers import GOOD_CARD, Payers
from deploy.simulator.tenants import OPERATOR, Tenant
from services.chassis.clock import AdjustableClock

__all__ = ["ScenarioError", "World"]

T = TypeVar("T")

_AS_OPERATOR = operator(OPERATOR)
# A caller of its own, so that the view's requests do not count against its limits.
_AS_SCENARIO = operator("demo-scenario")
_AS_SERVICE = service_account("demo-scenario", "usage:write usage:check")

# What takes longer is asked for less often, because the surface limits how often.
_POLL_FIRST_S, _POLL_LONGEST_S, _POLL_GROWS = 0.2, 2.0, 1.5
_DAY_S = 24 * 3600
# Usage is spread over so many calls.
_CALLS = 8
_ESTIMATE = {"amount": "0.010000", "currency": "CHF"}
_MODELS = (("anthropic", "claude-opus-4-5-20251101"), ("openai", "gpt-5.4"), ("google", "gemini-2.5-pro"))


class ScenarioError(StackError):
    """What a step waited for did not happen."""


class World:
    """A running stack as the scenario uses it; `stack` is the content of its `stack.json`.

    For `patience_s` seconds an answer is asked for again where that can help, and what is to happen is waited for.
    """

    def __init__(
        self, stack: Mapping[str, Any], client: httpx.AsyncClient, platform: Platform, *, patience_s: float = 90.0
    ) -> None:
        self.platform = platform
        self._patience_s = patience_s
        self.payers = Payers(client, stack["stripe"])
        self._stack = stack
        self._return_url = f"{stack['mail']}/"
        self._now = AdjustableClock(Path(stack["clock_file"]))

    async def happens(self, what: str, look: Callable[[], Awaitable[T | None]]) -> T:
        """The first true answer; `ScenarioError` that names what did not happen."""
        deadline, pause_s = time.monotonic() + self._patience_s, _POLL_FIRST_S
        while True:
            answer = await look()
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise ScenarioError(f"{what}: that did not happen within {self._patience_s:.0f} s")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * _POLL_GROWS, _POLL_LONGEST_S)

    async def change_as_admin(self, tenant: Tenant, path: str, body: object = None) -> Any:
        """What the administrator of a tenant changes in the frontend; that happens once, however often it is sent."""
        return await self.platform.call(
            "POST",
            path,
            person(tenant.admin.id),
            body=body,
            idempotency_key=str(uuid4()),
            patience_s=self._patience_s,
        )

    async def change_settings(self, tenant: Tenant, changes: Mapping[str, object]) -> None:
        """What a system administrator sets for a tenant."""
        path = f"/api/billing/admin/settings/{tenant.id}"
        await self.platform.call("POST", path, _AS_OPERATOR, body=changes, patience_s=self._patience_s)

    async def knows(self, path: str) -> bool:
        """Whether there is something at a path."""
        try:
            await self.platform.call("GET", path, _AS_SCENARIO, patience_s=self._patience_s)
        except PlatformError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return False
            raise
        return True

    async def subscription(self, tenant: Tenant) -> dict[str, Any]:
        """A tenant's subscription."""
        return dict(await self._read(f"/api/subscriptions/{tenant.id}"))

    async def balance(self, tenant: Tenant) -> Decimal:
        """The balance of a tenant's pool, in CHF."""
        return Decimal((await self._read(f"/api/billing/balance/{tenant.id}"))["balance"])

    async def movements(self, tenant: Tenant, kind: str) -> list[dict[str, Any]]:
        """The newest movements of one kind (`PAYMENT`, `SUBSCRIPTION`) in a tenant's ledger."""
        filters = f'{{"filters": {{"referenceType": "{kind}"}}}}'
        path = f"/api/billing/view/users/transactions?mandateId={tenant.id}&limit=50&pagination={filters}"
        return list((await self._read(path))["items"])

    async def invoices(self, tenant: Tenant) -> list[dict[str, Any]]:
        """A tenant's invoices, the newest first."""
        return list((await self._read(f"/api/billing/invoices?mandateId={tenant.id}"))["items"])

    async def refusal(self, tenant: Tenant) -> str | None:
        """Why a tenant's people may not make a call now; None when they may."""
        body = {"mandateId": tenant.id, "userId": tenant.admin.id, "estimatedCost": _ESTIMATE}
        path = "/api/billing/check"
        answer = await self.platform.call("POST", path, _AS_SERVICE, body=body, patience_s=self._patience_s)
        return None if answer["allowed"] else str(answer["reason"])

    async def checkout(self, tenant: Tenant, path: str, card: str = GOOD_CARD, **body: object) -> str:
        """Ask for a page of Stripe, and pay or save a card on it, as the tenant's administrator; gives its address."""
        answer = await self.change_as_admin(tenant, path, {"returnUrl": self._return_url, **body})
        page = str(answer["redirectUrl"])
        await self.payers.pay(page, card)
        return page

    async def use(self, tenant: Tenant, amount: Decimal) -> None:
        """Let a tenant use AI for that much in CHF, its markup included."""
        markup = Decimal((await self._read(f"/api/billing/markup?mandateId={tenant.id}"))["percent"])
        cost = (amount / (1 + markup / 100) / _CALLS).quantize(Decimal("0.000001"))
        events = [self._event(tenant, cost, *_MODELS[number % len(_MODELS)]) for number in range(_CALLS)]
        # Ids make a repeat harmless.
        await self.platform.call(
            "POST",
            "/api/usage/batch",
            _AS_SERVICE,
            body=events,
            content_type="application/cloudevents-batch+json",
            patience_s=self._patience_s,
        )

    async def let_pass(self, days: int) -> None:
        """Move the time of platform and fake Stripe, and return when everything due by it is done."""
        with httpx.Client(trust_env=False) as client:
            clock = StackClock(find_home(), self._stack, client)
            # In short pieces, so that whoever ends the demo does not wait for a thread.
            offset_s = await asyncio.to_thread(_move, clock, days * _DAY_S)

            async def is_taken_over() -> bool:
                return not await asyncio.to_thread(clock.behind, offset_s)

            await self.happens("every process and job goes by the new time", is_taken_over)

    def _event(self, tenant: Tenant, cost: Decimal, provider: str, model: str) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "id": str(uuid4()),
            "source": "/ai/chat",
            "type": "ch.rappen.usage.recorded.v1",
            "time": self._now().isoformat(),
            "data": {
                "mandate_id": tenant.id,
                "user_id": tenant.admin.id,
                "provider": provider,
                "model": model,
                "cost": {"amount": str(cost), "currency": "CHF"},
                "feature_code": "chat",
            },
        }

    async def _read(self, path: str) -> Any:
        return await self.platform.call("GET", path, _AS_SCENARIO, patience_s=self._patience_s)


def _move(clock: StackClock, seconds: int) -> int:
    """Move the time, after bringing an advance that was cut off to its end; gives how far ahead the platform is."""
    with clock.moving():
        begun = clock.begun()
        if begun is not None:
            clock.make(begun)
        advance = clock.begin(seconds)
        clock.make(advance)
    return advance.platform_offset_s
