"""The control surface real Stripe does not have: pay sessions, send events, move the clock, make faults."""

from __future__ import annotations

from typing import Annotated, Literal

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from deploy.fakestripe.api import Api, Fault
from deploy.fakestripe.control_errors import ControlError
from deploy.fakestripe.control_webhooks import Webhooks
from deploy.fakestripe.objects.checkout import Conflict, Outcome, settle
from deploy.fakestripe.objects.payment_methods import DECLINED_TWINT, TWINT, TestCard
from deploy.fakestripe.store import Json
from deploy.fakestripe.webhooks import Dispatcher

_TWINT: dict[Outcome, TestCard] = {"paid": TWINT, "declined": DECLINED_TWINT}
MAX_ADVANCE_S = 10 * 366 * 24 * 3600
_INTERNAL_MEMBERS = frozenset(("batch", "payload"))


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pay(_Body):
    """What the customer or the bank does with a checkout session."""

    outcome: Outcome
    method: Literal["card", "twint"] = "card"
    webhooks: Webhooks = Field(default_factory=Webhooks)


class Advance(_Body):
    """By how much the fake's own time moves, forward only."""

    seconds: int = Field(ge=0, le=MAX_ADVANCE_S)


class FaultBody(_Body):
    """Which requests are answered how; see `api.Fault`."""

    path: str = Field(min_length=1, max_length=500, pattern="^/")
    status: Literal[200] | Annotated[int, Field(ge=400, le=599)]
    times: int = Field(default=1, ge=1, le=100_000)
    method: Annotated[str | None, Field(pattern="^(GET|POST|DELETE)$")] = None
    after_effect: bool = False
    delay_s: float = Field(default=0.0, ge=0, le=120, allow_inf_nan=False)
    kept: bool = False


class EventBody(BaseModel):
    """An event object as Stripe sends it; whatever else it has is sent on as it is."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(min_length=1, max_length=255)
    type: str = Field(min_length=1, max_length=255)


class Control:
    """Carries out what the control surface is asked."""

    def __init__(self, api: Api, dispatcher: Dispatcher) -> None:
        self._api = api
        self._store = api.store
        self._dispatcher = dispatcher

    def router(self) -> APIRouter:
        """Return the routes under /_control."""
        router = APIRouter(prefix="/_control")
        router.add_api_route("/checkout/sessions", self.sessions, methods=["GET"])
        router.add_api_route("/checkout/sessions/{session_id}/pay", self.pay, methods=["POST"])
        router.add_api_route("/events", self.send_event, methods=["POST"])
        router.add_api_route("/clock/advance", self.advance, methods=["POST"])
        router.add_api_route("/faults", self.add_fault, methods=["POST"])
        router.add_api_route("/faults", self.end_faults, methods=["DELETE"])
        router.add_api_route("/webhooks", self.disturb, methods=["POST"])
        router.add_api_route("/deliveries", self.deliveries, methods=["GET"])
        router.add_api_route("/state", self.state, methods=["GET"])
        return router

    async def sessions(self) -> list[Json]:
        """List every checkout session, newest last."""
        return list(self._store.table("checkout_session").look())

    async def pay(self, session_id: str, body: Pay) -> Json:
        """Let a session be paid, declined, or paid later."""
        session = self._store.table("checkout_session").get(session_id)
        if session is None:
            raise ControlError(404, f"no such checkout session: {session_id}")
        card = _TWINT.get(body.outcome) if body.method == "twint" else None
        if body.method == "twint" and card is None:
            raise ControlError(422, f"method: TWINT decides at once, and never has the outcome {body.outcome}")
        call = self._api.begin()
        try:
            settle(call, session, body.outcome, card)
        except Conflict as conflict:
            raise ControlError(409, str(conflict)) from conflict
        finally:
            # A session may have expired on the way to the conflict, which is to be delivered as well.
            self._api.finish(call, body.webhooks.disturbance())
            await self._store.saved()
        return session

    async def send_event(self, body: EventBody) -> Json:
        """Deliver an event object as if Stripe had sent it, unchanged and signed."""
        event = body.model_dump()
        try:
            orjson.dumps(event)
        except TypeError as error:
            raise ControlError(422, f"the event cannot be sent: {error}") from error
        deliveries = self._api.outbox.schedule_given(event)
        await self._store.saved()
        return {"event": body.id, "deliveries": deliveries}

    async def advance(self, body: Advance) -> Json:
        """Move the fake's own time forward, and let happen what is due then."""
        self._store.advance(body.seconds)
        self._store.touch()
        self._dispatcher.run_timers()
        self._api.outbox.changed.set()
        await self._store.saved()
        return {"now": self._store.now()}

    async def add_fault(self, body: FaultBody) -> Json:
        """Answer the next requests to a path otherwise."""
        fault = body.model_dump()
        self._api.faults.append(Fault(**fault))
        return fault

    async def end_faults(self) -> list[Json]:
        """Answer rightly from now on; lists the faults that were still to come."""
        left = [vars(fault).copy() for fault in self._api.faults]
        self._api.faults.clear()
        return left

    async def disturb(self, body: Webhooks) -> Json:
        """Let all webhooks go wrong from now on that nothing else is said about; nothing wrong by default."""
        self._api.outbox.standing = body.disturbance()
        return body.model_dump()

    async def deliveries(self) -> list[Json]:
        """List every delivery of a webhook, newest last."""
        rows = self._store.table("delivery").look()
        return [{name: value for name, value in row.items() if name not in _INTERNAL_MEMBERS} for row in rows]

    async def state(self) -> Json:
        """Summarise what the fake holds."""
        return {
            "now": self._store.now(),
            "clock_offset_s": self._store.clock_offset_s,
            "rows": self._store.tables(),
            "undelivered": len(self._api.outbox.pending),
            "faults": [vars(fault) for fault in self._api.faults],
        }
