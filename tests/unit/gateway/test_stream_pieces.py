"""What a stream sends, piece by piece: to nobody who may not listen any more, however much there is to send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request

from services.chassis import streams
from services.chassis.caller import Caller
from services.chassis.settings import KafkaSettings
from services.gateway.access.identity import TokenVerifier
from services.gateway.edge.admission import Admission, Call
from services.gateway.edge.operations import operations_of, read_document
from services.gateway.feed import api
from services.gateway.feed.api import EventStream, Stream, _pieces
from services.gateway.feed.domain import PLACES, Positions, Update
from services.gateway.feed.live_feed import Listener, LiveFeed

START = Positions(dict.fromkeys(PLACES, 0))
MEMBER = Caller(user_id="mia", mandates={"m": False})


def stream(renewal_s: float) -> Stream:
    """A stream at a gateway that knows no issuer, so that no token is good any more."""
    feed = LiveFeed(
        KafkaSettings(bootstrap_servers="127.0.0.1:1"), client_id="test", streams_max=5, clock=lambda: datetime.now(UTC)
    )
    admission = Admission(tokens=TokenVerifier([]), limits=cast("Any", None), scopes=cast("Any", None))
    return Stream(feed, admission, renewal_s)


def call() -> Call:
    operation = next(each for each in operations_of(read_document("gateway")) if each.id == "billing-stream")
    return Call(Request({"type": "http", "headers": []}), operation, MEMBER, {}, "key")


def balances(count: int) -> Listener:
    """Somebody with so many events to be sent."""
    listener = Listener(MEMBER, None, START)
    for number in range(count):
        listener.offer(Update("balance", "m", None, b"%d" % number), START)
    return listener


async def test_who_may_not_listen_any_more_is_sent_nothing_though_there_is_always_something_to_send(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listener = balances(100)
    now_s = 0.0
    monkeypatch.setattr(api, "time", SimpleNamespace(monotonic=lambda: now_s))
    sent = []
    async for piece in _pieces(stream(3), call(), listener, None):
        sent.append(piece)
        # A reader who takes one every second, so that there is always another.
        now_s += 1
    # Who was just let in, and three events in as many seconds.
    assert len(sent) == 4
    assert listener.queue.qsize() == 97


async def test_what_was_offered_before_is_not_sent_once_it_is_out_of_scope() -> None:
    listener = balances(3)
    pieces = _pieces(stream(60), call(), listener, None)
    await anext(pieces)
    assert (await anext(pieces)).endswith(b"data: 0\n\n")
    listener.caller = Caller(user_id="mia", mandates={"other": False})
    listener.end()
    assert [piece async for piece in pieces] == []


async def test_who_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PIECE_S", 0.05)
    ended: list[str] = []

    async def given() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b":\n\n"
        finally:
            ended.append("pieces")

    @asynccontextmanager
    async def listening() -> AsyncGenerator[Listener, None]:
        yield balances(0)
        ended.append("listening")

    async def takes_nothing(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def stays() -> Any:
        return await asyncio.Event().wait()

    here = listening()
    await here.__aenter__()
    answer = EventStream(given(), here)
    assert answer.headers["content-type"].startswith("text/event-stream")
    async with asyncio.timeout(60):
        with suppress(OSError, ExceptionGroup):
            await answer({"type": "http", "asgi": {"spec_version": "2.3"}}, stays, takes_nothing)
    assert ended == ["pieces", "listening"]
