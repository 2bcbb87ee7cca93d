"""Bodies that arrive slowly or not at all."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from fastapi import Request

from services.chassis.requests import Deadline
from services.gateway.edge import admission
from services.gateway.edge.admission import read_body
from services.gateway.edge.errors import BodyTooSlow
from services.gateway.edge.operations import Body


def _request(*chunks: tuple[float, bytes]) -> Request:
    """A request whose parts come after so many seconds each; after the last one nothing comes."""
    waiting = iter(chunks)

    async def receive() -> MutableMapping[str, Any]:
        found = next(waiting, None)
        if found is None:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")
        await asyncio.sleep(found[0])
        return {"type": "http.request", "body": found[1], "more_body": found[1] != b"}"}

    headers = [(b"content-type", b"application/json")]
    return Request({"type": "http", "method": "POST", "headers": headers, "state": {}}, receive)


async def test_the_time_of_a_slow_line_is_not_the_time_for_the_answer() -> None:
    request = _request((0.6, b"{"), (0.6, b"}"))
    async with Deadline(1) as deadline:
        request.state.deadline = deadline
        assert await read_body(request, Body()) == b"{}"
        assert 0.1 < deadline.left_s() <= 1


async def test_a_body_that_never_ends_is_the_callers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BODY_S", 0.1)
    request = _request((0, b"{"))
    async with Deadline(5) as deadline:
        request.state.deadline = deadline
        with pytest.raises(BodyTooSlow):
            await read_body(request, Body())
