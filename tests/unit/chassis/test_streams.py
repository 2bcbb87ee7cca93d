"""Answers that are sent piece by piece, by a real server: whole, or visibly not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Response

from deploy.local.ports import free_port
from services.chassis.problems import Problem
from services.chassis.requests import install_problems
from services.chassis.streams import StreamedAnswer
from tests.support.described import NO_OPERATIONS
from tests.support.waiting import eventually


class _Refused(Problem):
    status = 409
    code = "REFUSED"


@asynccontextmanager
async def serving(closed: list[str]) -> AsyncIterator[httpx.AsyncClient]:
    """A server whose paths say after how many pieces an answer fails."""
    app = FastAPI(openapi_url=None)
    install_problems(app)

    async def pieces(count: int, *, fails: bool) -> AsyncGenerator[bytes, None]:
        try:
            for _ in range(count):
                yield b"x" * 1000
                await asyncio.sleep(0)
            if fails:
                raise _Refused
        finally:
            closed.append("closed")

    @app.get("/{count}")
    async def answer(count: int, *, fails: bool = False) -> Response:
        return await StreamedAnswer.begun(pieces(count, fails=fails), media_type="text/plain", filename="x.txt")

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", lifespan="off"))
    task = asyncio.create_task(server._serve())
    await eventually(lambda: server.started, what="the server serves")
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        await task


async def test_what_fails_midway_is_no_whole_answer() -> None:
    closed: list[str] = []
    async with serving(closed) as client:
        whole = await client.get("/20", extensions=NO_OPERATIONS)
        assert (whole.status_code, len(whole.content)) == (200, 20_000)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/20?fails=true", extensions=NO_OPERATIONS)
        refused = await client.get("/0?fails=true", extensions=NO_OPERATIONS)
        assert (refused.status_code, refused.json()["code"]) == (409, "REFUSED")
        empty = await client.get("/0", extensions=NO_OPERATIONS)
        assert (empty.status_code, empty.content) == (200, b"")
    assert closed == ["closed"] * 4


async def test_who_stops_reading_is_not_written_for() -> None:
    closed: list[str] = []
    async with serving(closed) as client:
        async with client.stream("GET", "/10000000", extensions=NO_OPERATIONS) as answer:
            await anext(answer.aiter_raw())
            assert closed == []
        await eventually(lambda: closed == ["closed"], what="the pieces are closed")
