"""What the gateway's tests stand on: real gateway processes, tokens, and the peers that other services are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response

from deploy.local.ports import free_port
from rappen_contracts import decode
from rappen_contracts.directory.v1 import DirectoryChanged
from rappen_contracts.registry import source_topic
from services.chassis.caller import CALLER_HEADER, CallerVerifier
from services.chassis.clock import system_clock
from tests.support.described import FAKED_JSON
from tests.support.stack import ServerPair
from tests.support.topics import read_in_group, read_topic
from tests.support.waiting import eventually

Headers = dict[str, str]
# The delay of a peer that hangs: much longer than anybody waits for an answer.
HANG_S = 90.0
MEMBER_LIMIT = "internal/member-limit/"


class Peer:
    """A service behind the gateway: tells what reached it, after verifying the caller as services do."""

    def __init__(self, name: str, secret: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Answers to give instead, by path: status, body.
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        # How many members the plans of mandates allow, as subscriptions is asked; any other has no limit.
        self.member_limits: dict[str, int] = {}
        self._delay_s = 0.0
        self._no_delay = asyncio.Event()
        self.requests = 0
        # Requests that have arrived and have no answer yet.
        self.waiting = 0
        self._name = name
        self._verify = CallerVerifier(audience=name, secret=secret).verify
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.app = FastAPI(openapi_url=None)
        self.app.add_api_route("/{path:path}", self._answer, methods=["GET", "POST", "PUT", "DELETE"])

    @property
    def delay_s(self) -> float:
        """How long each answer takes; set to zero, it gives those that are waited for at once."""
        return self._delay_s

    @delay_s.setter
    def delay_s(self, delay_s: float) -> None:
        self._delay_s = delay_s
        if not delay_s:
            self._no_delay.set()
            self._no_delay = asyncio.Event()

    async def _answer(self, request: Request, path: str) -> Response:
        self.requests += 1
        self.waiting += 1
        try:
            if self._delay_s:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._no_delay.wait(), self._delay_s)
        finally:
            self.waiting -= 1
        unsigned = path.endswith("webhook/stripe") or CALLER_HEADER not in request.headers
        caller = None if unsigned else self._verify(request.headers[CALLER_HEADER])
        told = {
            "service": self._name,
            "method": request.method,
            "path": request.url.path,
            "query": request.scope["query_string"].decode(),
            "body": (await request.body()).decode("latin-1"),
            "headers": dict(request.headers),
            "caller": None if caller is None else caller.model_dump(mode="json"),
        }
        if path.startswith(MEMBER_LIMIT):
            told = {"maxUsers": self.member_limits.get(path.removeprefix(MEMBER_LIMIT))}
        status, body = self.answers.get(request.url.path, (200, told))
        headers = {"Retry-After": "7", "X-Internal": "secret", "Content-Type": FAKED_JSON}
        return Response(json.dumps(body), status_code=status, headers=headers)

    async def start(self) -> None:
        config = uvicorn.Config(self.app, host="127.0.0.1", port=self.port, log_level="warning", lifespan="off")
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server._serve())
        server = self._server
        await eventually(lambda: server.started, what=f"the peer {self._name} serves")

    async def stop(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            await self._serving
        self._server = None


@asynccontextmanager
async def directory_read_by_all(bootstrap_servers: str) -> AsyncIterator[None]:
    """directory.changed read in the groups of the other services, so that a change is read by everybody at once."""
    async with AsyncExitStack() as readers:
        for group in source_topic("directory.changed").groups:
            await readers.enter_async_context(read_in_group(bootstrap_servers, "directory.changed", group))
        yield


def unique(prefix: str) -> str:
    """An id that no other test uses."""
    return f"{prefix}-{uuid4().hex[:12]}"


def assert_problem(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The document of a refusal, complete and readable."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "code", "requestId"} <= document.keys()
    assert document["status"] == status
    assert isinstance(document["detail"], str)
    assert document["requestId"] == answer.headers["x-request-id"]
    if code is not None:
        assert document["code"] == code
    return document


async def put(client: httpx.AsyncClient, headers: Headers, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Makes an entry of the directory and gives it as it is answered."""
    answer = await client.put(f"/api/directory/{path}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    entry: dict[str, Any] = answer.json()
    return entry


async def a_tenant(client: httpx.AsyncClient, admin: Headers, *roles: str) -> tuple[str, str]:
    """A mandate with one member of those roles."""
    mandate, user = unique("mandate"), unique("user")
    await put(client, admin, f"mandates/{mandate}", {"name": "acme", "label": "Acme AG"})
    await put(client, admin, f"users/{user}", {"username": "jo"})
    await put(client, admin, f"memberships/{mandate}/{user}", {"roles": list(roles)})
    return mandate, user


async def events_of(servers: ServerPair, key: str, count: int) -> list[DirectoryChanged]:
    """The changes that were published under a key; waits for so many."""
    records = await read_topic(servers.kafka.bootstrap_servers, "directory.changed", key=key, count=count)
    changes = [decode(record.headers, record.value, now=system_clock()).data for record in records]
    return [change for change in changes if isinstance(change, DirectoryChanged)]


async def import_lines(client: httpx.AsyncClient, headers: Headers, body: str | bytes) -> httpx.Response:
    """Sends the lines of an import."""
    given = {**headers, "Content-Type": "application/x-ndjson"}
    return await client.post("/api/directory/import", content=body, headers=given)
