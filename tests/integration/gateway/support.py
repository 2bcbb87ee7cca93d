"""What the gateway's tests stand on: real gateway processes, tokens, and the peers that other services are."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import uvicorn
from aiokafka import AIOKafkaConsumer, TopicPartition
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI, Request, Response

from deploy.local.ports import free_port
from rappen_contracts.registry import source_topic
from services.chassis.caller import CALLER_HEADER, CallerVerifier
from services.gateway.key_sets import DevelopmentKey
from tests.support.processes import ServiceProcess
from tests.support.stack import ROOT, ServerPair

ISSUER = "http://issuer.test/rappen"
READY_TIMEOUT_S = 30.0
ALMOST_ADMIN = ("Admin", "ADMIN", "administrator", "feature-admin", "mandate-admin", "admin ", "sysadmin")


class Issuer:
    """Signs tokens as a development stack does."""

    def __init__(self, folder: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / "issuer.pem"
        self.file.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.key_id = DevelopmentKey(self.file).public["kid"]

    def token(
        self, claims: Mapping[str, Any], *, key: Any = None, algorithm: str = "ES256", **headers: str | None
    ) -> str:
        """A token with usable defaults for whatever is not given; a claim or header of None is left out."""
        now = int(time.time())
        all_claims = {"iss": ISSUER, "aud": "rappen", "iat": now, "exp": now + 600, **claims}
        all_headers = {"typ": "at+jwt", "kid": self.key_id, **headers}
        return jwt.encode(
            {name: claim for name, claim in all_claims.items() if claim is not None},
            key if key is not None else self.key,
            algorithm=algorithm,
            headers={name: header for name, header in all_headers.items() if header is not None},
        )

    def person(self, user_id: str, *, system_admin: bool = False) -> dict[str, str]:
        """The headers of a person."""
        claims = {"sub": user_id, "rappen_system_admin": True} if system_admin else {"sub": user_id}
        return {"Authorization": f"Bearer {self.token(claims)}"}

    def program(self, scope: str) -> dict[str, str]:
        """The headers of a program."""
        return {"Authorization": f"Bearer {self.token({'sub': 'service:tests', 'scope': scope})}"}


class Peer:
    """A service behind the gateway: tells what reached it, after verifying the caller as services do."""

    def __init__(self, name: str, secret: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Answers to give instead, by path: status, body.
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self.delay_s = 0.0
        self.requests = 0
        # Requests that have arrived and have no answer yet.
        self.waiting = 0
        self._name = name
        self._verify = CallerVerifier(audience=name, secret=secret).verify
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.app = FastAPI(openapi_url=None)
        self.app.add_api_route("/{path:path}", self._answer, methods=["GET", "POST", "PUT", "DELETE"])

    async def _answer(self, request: Request, path: str) -> Response:
        self.requests += 1
        self.waiting += 1
        try:
            await asyncio.sleep(self.delay_s)
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
        status, body = self.answers.get(request.url.path, (200, told))
        headers = {"Retry-After": "7", "X-Internal": "secret", "Content-Type": "application/json"}
        return Response(json.dumps(body), status_code=status, headers=headers)

    async def start(self) -> None:
        config = uvicorn.Config(self.app, host="127.0.0.1", port=self.port, log_level="warning", lifespan="off")
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server._serve())
        async with asyncio.timeout(10):
            while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it.
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            await self._serving
        self._server = None


class DirectoryReaders:
    """The groups that read directory.changed in other services, so that a change is read by everybody at once."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._consumers = [
            AIOKafkaConsumer(
                "directory.changed",
                bootstrap_servers=bootstrap_servers,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
            )
            for group in source_topic("directory.changed").groups
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for consumer in self._consumers:
            await consumer.start()
            self._tasks.append(asyncio.create_task(self._read(consumer)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for consumer in self._consumers:
            await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            if await consumer.getmany(timeout_ms=50):
                await consumer.commit()


class GatewayProcess:
    """One gateway as a process of its own, as it runs in production."""

    def __init__(
        self,
        servers: ServerPair,
        issuer: Issuer,
        peers: Mapping[str, Peer | ServiceProcess],
        folder: Path,
        *,
        python: str = sys.executable,
        cwd: Path = ROOT,
    ) -> None:
        self._command, self._cwd = [python, "-m", "services.gateway"], cwd
        self._servers = servers
        self._issuer = issuer
        self._peers = peers
        self._log = folder / f"gateway-{uuid4().hex}.log"
        self.port, self.internal_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.internal_url = f"http://127.0.0.1:{self.internal_port}"
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        peers = {f"GATEWAY_{name.upper()}_URL": peer.url for name, peer in self._peers.items()}
        own = {
            "GATEWAY_INTERNAL_HTTP__PORT": str(self.internal_port),
            "GATEWAY_DEV_ISSUER__ISSUER": ISSUER,
            "GATEWAY_DEV_ISSUER__PRIVATE_KEY_FILE": str(self._issuer.file),
            "GATEWAY_FRONTEND_ORIGINS": '["https://app.test"]',
            "GATEWAY_RATE_LIMITS__ENABLED": "false",
            # Beside the usual roles some that only look like `admin`.
            "GATEWAY_MEMBER_ROLES": json.dumps(["admin", "member", *ALMOST_ADMIN]),
            "GATEWAY_ACCESS_ROLES": json.dumps(["admin", "user", *ALMOST_ADMIN]),
        }
        return self._servers.environment("gateway", port=self.port, more={**peers, **own, **more})

    async def start(self, *, role: str = "all", more: Mapping[str, str] | None = None) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - returns at once.
                [*self._command, role],
                cwd=self._cwd,
                env=self.environment(more or {}),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        async with httpx.AsyncClient(trust_env=False) as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    if (await client.get(f"{self.internal_url}/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        raise AssertionError(f"the gateway did not start:\n{self.log()}")

    async def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            code = await asyncio.to_thread(self._process.wait, 60)
            assert code == 0, self.log()

    @property
    def exit_code(self) -> int | None:
        """How it ended, or None."""
        return None if self._process is None else self._process.poll()

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-20_000:]


async def read_topic(bootstrap_servers: str, topic: str, count: int, *, key: str) -> list[Any]:
    """The first records of a key, in their order; waits for as many."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    found: list[Any] = []
    async with consumer, asyncio.timeout(20):
        consumer.assign([TopicPartition(topic, number) for number in range(source_topic(topic).partitions)])
        while len(found) < count:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record for record in records if record.key == key.encode()]
    return found


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
