"""Which origins are allowed: the listed ones, and in development every one of this machine."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import PlainTextResponse

from services.gateway.edge.cors import Cors


async def granted(origin: str, *, loopback: bool) -> str | None:
    app = Cors(
        PlainTextResponse("x"), origins=["https://app.test"], loopback=loopback, methods=[], headers=[], exposed=[]
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        answer = await client.get("/", headers={"Origin": origin})
    return answer.headers.get("access-control-allow-origin")


@pytest.mark.parametrize("origin", ["http://localhost", "http://localhost:4321", "http://127.0.0.1:5173"])
async def test_every_origin_of_this_machine_may_call_in_development_only(origin: str) -> None:
    assert await granted(origin, loopback=True) == origin
    assert await granted(origin, loopback=False) is None


@pytest.mark.parametrize(
    "origin",
    [
        "https://localhost",
        "http://localhost.evil.test",
        "http://localhost:80.evil.test",
        "http://127.0.0.1.evil.test",
        "http://127.0.0.1:",
        "http://127.0.0.10",
        "http://127x0x0x1",
        "http://localhost:5173/",
        "xhttp://localhost",
        "null",
    ],
)
async def test_what_only_looks_like_this_machine_may_not(origin: str) -> None:
    assert await granted(origin, loopback=True) is None
    assert await granted("https://app.test", loopback=True) == "https://app.test"
