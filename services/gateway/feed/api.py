"""GET /api/billing/stream: what changes in the caller's scope, as server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from rappen_contracts.types import Identifier
from services.chassis.operations import operation
from services.chassis.problems import Problem
from services.chassis.state import of_state
from services.gateway.edge.admission import Admission, Admitted, Call, PublicRoute
from services.gateway.feed.domain import Positions
from services.gateway.feed.errors import BadLastEventId
from services.gateway.feed.live_feed import Listener, LiveFeed, Sent

__all__ = ["EventStream", "Stream", "api"]

RETRY_MS: Final = 3_000

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


class EventStream(StreamingResponse):
    """Server-sent events, as https://html.spec.whatwg.org/multipage/server-sent-events.html has them; when the answer
    has ended, however it ended, nobody listens any more."""

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncIterator[bytes], listening: AbstractAsyncContextManager[Listener]) -> None:
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


async def _pieces(of: Stream, call: Call, listener: Listener, since: Positions | None) -> AsyncIterator[bytes]:
    begins = listener.began if since is None else since
    yield b"retry: %d\nid: %s\nevent: ready\ndata: {}\n\n" % (RETRY_MS, begins.id.encode())
    if since is not None:
        async for missed in of.feed.missed(listener, since):
            yield _piece(missed)
    renew_at = time.monotonic() + of.renewal_s
    while True:
        try:
            async with asyncio.timeout(renew_at - time.monotonic()):
                sent = await listener.queue.get()
        except TimeoutError:
            if not await _renewed(of, call, listener):
                # They learn why when they come again.
                return
            renew_at = time.monotonic() + of.renewal_s
            yield b":\n\n"
            continue
        if sent is None:
            return
        yield _piece(sent)


async def _renewed(of: Stream, call: Call, listener: Listener) -> bool:
    """Whether the caller may still listen; to what, is as it is now."""
    try:
        caller = await of.admission.renew(call)
        if listener.mandate_id is not None:
            caller.require_member(listener.mandate_id)
    except Problem:
        return False
    listener.caller = caller
    return True


def _piece(sent: Sent) -> bytes:
    update, positions = sent
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (positions.id.encode(), update.name.encode(), update.data)
