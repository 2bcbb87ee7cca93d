"""GET /api/billing/stream: what changes in the caller's scope, as server-sent events."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Response
from starlette.types import Receive, Scope, Send

from rappen_contracts.types import Identifier
from services.chassis.operations import operation
from services.chassis.problems import Problem
from services.chassis.state import of_state
from services.chassis.streams import StreamedAnswer
from services.gateway.edge.admission import Admission, Admitted, Call, PublicRoute
from services.gateway.feed.domain import Positions
from services.gateway.feed.errors import BadLastEventId
from services.gateway.feed.live_feed import Listener, LiveFeed, Sent

__all__ = ["EventStream", "Stream", "api"]

RETRY_MS: Final = 3_000
# Who takes longer for what they missed is let go, and goes on from their last event: there are few places to catch up.
CATCHING_UP_S: Final = 60.0

api = APIRouter(route_class=PublicRoute)


@dataclass(frozen=True, slots=True)
class Stream:
    """What the route works with; the application has it as `state.stream`.

    Every `renewal_s` seconds a comment is sent, so that whoever stands between sees that the connection lives, and the
    caller is looked at again, so that what was taken away from them ends what they are sent.
    """

    feed: LiveFeed
    admission: Admission
    renewal_s: float


class EventStream(StreamedAnswer):
    """Server-sent events, as https://html.spec.whatwg.org/multipage/server-sent-events.html has them; when the answer
    has ended, however it ended, nobody listens any more."""

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncGenerator[bytes, None], listening: AbstractAsyncContextManager[Listener]) -> None:
        super().__init__(pieces, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._listening = listening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._listening.__aexit__(None, None, None)


@api.get(
    "/api/billing/stream",
    response_class=EventStream,
    **operation(
        "billing-stream",
        "Balances, transactions and subscriptions in the caller's scope as they change, as server-sent events.",
        answer=str,
        limit=20,
        refuses=(422,),
    ),
)
async def stream(
    call: Admitted,
    of: Annotated[Stream, of_state("stream")],
    mandate_id: Annotated[Identifier | None, Query(alias="mandateId")] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=1000)] = None,
) -> Response:
    """Begins with an event `ready`, which has an id to go on from where nothing else comes."""
    if mandate_id is not None:
        call.caller.require_member(mandate_id)
    since = None
    if last_event_id:
        since = Positions.of_id(last_event_id)
        if since is None:
            raise BadLastEventId
    listening = of.feed.listen(call.caller, mandate_id)
    listener = await listening.__aenter__()
    return EventStream(_pieces(of, call, listener, since), listening)


async def _pieces(of: Stream, call: Call, listener: Listener, since: Positions | None) -> AsyncGenerator[bytes, None]:
    begins = listener.began if since is None else since
    yield b"retry: %d\nid: %s\nevent: ready\ndata: {}\n\n" % (RETRY_MS, begins.id.encode())
    admitted = _Admitted(of, call, listener)
    # They learn why when they come again.
    with suppress(_LetGo):
        if since is not None:
            async with aclosing(_missed(of, admitted, listener, since)) as missed:
                async for piece in missed:
                    yield piece
        async with aclosing(_live(admitted, listener)) as live:
            async for piece in live:
                yield piece


async def _missed(
    of: Stream, admitted: "_Admitted", listener: Listener, since: Positions
) -> AsyncGenerator[bytes, None]:
    end_at = time.monotonic() + CATCHING_UP_S
    async with aclosing(of.feed.missed(listener, since)) as missed:
        async for each in missed:
            if time.monotonic() > end_at:
                raise _LetGo
            if not admitted.for_s:
                await admitted.renew()
            if each[0].visible_to(listener.caller):
                yield _piece(each)


async def _live(admitted: "_Admitted", listener: Listener) -> AsyncGenerator[bytes, None]:
    while True:
        if not admitted.for_s:
            await admitted.renew()
            yield b":\n\n"
        try:
            async with asyncio.timeout(admitted.for_s):
                sent = await listener.queue.get()
        except TimeoutError:
            continue
        if sent is None:
            return
        if sent[0].visible_to(listener.caller):
            yield _piece(sent)


class _LetGo(Exception):  # noqa: N818 - it ends a stream, and is no fault.
    """They may not listen any more, or take too long."""


class _Admitted:
    """A caller who was let in, until they are to be looked at again: however much there is to send meanwhile."""

    def __init__(self, of: Stream, call: Call, listener: Listener) -> None:
        self._of = of
        self._call = call
        self._listener = listener
        self._until = time.monotonic() + of.renewal_s

    @property
    def for_s(self) -> float:
        """How long yet."""
        return max(0.0, self._until - time.monotonic())

    async def renew(self) -> None:
        """Looks whether the caller may listen on; to what, is as it is now."""
        try:
            caller = await self._of.admission.renew(self._call)
            if self._listener.mandate_id is not None:
                caller.require_member(self._listener.mandate_id)
        except Problem:
            raise _LetGo from None
        self._listener.caller = caller
        self._until = time.monotonic() + self._of.renewal_s


def _piece(sent: Sent) -> bytes:
    update, positions = sent
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (positions.id.encode(), update.name.encode(), update.data)
