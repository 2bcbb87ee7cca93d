"""What the tests of payments work with: the service and the fake Stripe as processes, and a reader of its topic."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import stripe
from aiokafka import AIOKafkaConsumer

from deploy.local.ports import free_port
from rappen_contracts import Event, decode
from services.chassis.caller import CALLER_HEADER, Caller, sign_caller
from tests.support.stack import ROOT, ServerPair

__all__ = ["ORIGIN", "OTHER_SECRET", "SECRET", "WEBHOOK", "Person", "Process", "World", "eventually"]

ORIGIN = "https://app.example.ch"
API_KEY = "sk_test_integration"
SECRET = "whsec_of_the_fake_stripe"
OTHER_SECRET = "whsec_being_rolled_out"
WEBHOOK = "/api/billing/webhook/stripe"


async def eventually(question: Any, *, timeout_s: float = 15.0) -> Any:
    """Asks until the answer is true, and gives it; fails when the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = await question()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {question}"
        await asyncio.sleep(0.05)


class Process:
    """A real process of ours, started when it answers, killed or stopped at will."""

    def __init__(self, name: str, command: Sequence[str], *, port: int, ready: str, env: Mapping[str, str], log: Path):
        self.url = f"http://127.0.0.1:{port}"
        self._name, self._command, self._ready, self._env, self._log = name, command, ready, env, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._env, cwd=ROOT, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, f"{self._name} ended: {self._log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{self._name} is not ready: {self._log.read_text()[-3000:]}"
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url + self._ready, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self._process.wait(60)

    async def died(self) -> int:
        """Waits until the process has ended by itself."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, 30)


@dataclass(frozen=True)
class Person:
    """A user with a fresh mandate; `headers` are what the gateway would send along."""

    world: "World"
    caller: Caller
    mandate_id: str

    @property
    def headers(self) -> dict[str, str]:
        context = sign_caller(self.caller, audience="payments", secret=self.world.servers.secret, now=datetime.now(UTC))
        return {CALLER_HEADER: context, "Accept-Language": self.caller.language}

    async def create(self, *, mandate_id: str | None = None, key: str | None = None, **body: Any) -> httpx.Response:
        order = {"amount": 25, "returnUrl": f"{ORIGIN}/billing", **body}
        headers = self.headers | ({"Idempotency-Key": key} if key is not None else {})
        return await self.world.http.post(
            f"/api/billing/checkout/create/{mandate_id or self.mandate_id}", json=order, headers=headers
        )

    async def session(self, **body: Any) -> str:
        """Starts a checkout and gives the id of its session."""
        answer = await self.create(**body)
        assert answer.status_code == 200, answer.text
        return await self.world.session_id_of(answer.json()["redirectUrl"])

    async def confirm(self, session_id: Any) -> httpx.Response:
        return await self.world.http.post(
            "/api/billing/checkout/confirm", json={"sessionId": session_id}, headers=self.headers
        )


class World:
    """Everything of one test session."""

    def __init__(self, servers: ServerPair, folder: Path) -> None:
        self.servers = servers
        self.faults = folder / "faults"
        self.faults.mkdir()
        self._folder = folder
        ports = (free_port(), free_port())
        self.fake = Process(
            "fakestripe",
            [
                *(sys.executable, "-m", "deploy.fakestripe", "--port", str(ports[0])),
                *("--webhook-url", f"http://127.0.0.1:{ports[1]}{WEBHOOK}", "--webhook-secret", SECRET),
            ],
            port=ports[0],
            ready="/_control/state",
            env=os.environ,
            log=folder / "fakestripe.log",
        )
        self.service = self.process("all", port=ports[1])
        self.http = httpx.AsyncClient(base_url=self.service.url, timeout=30)
        self.control = httpx.AsyncClient(base_url=f"{self.fake.url}/_control", timeout=30)
        self.stripe = stripe.StripeClient(
            API_KEY, base_addresses={"api": self.fake.url}, http_client=stripe.HTTPXClient(), max_network_retries=0
        )
        self._events: dict[str, list[Event]] = defaultdict(list)

    def environment(self, *, port: int, stripe_settings: Mapping[str, str] | None = None) -> dict[str, str]:
        configured = {
            "API_KEY": API_KEY,
            "API_BASE": self.fake.url,
            "WEBHOOK_SECRETS": json.dumps([SECRET, OTHER_SECRET]),
        }
        chosen = configured if stripe_settings is None else stripe_settings
        return self.servers.environment(
            "payments",
            port=port,
            more={
                "PAYMENTS_RETURN_ORIGINS": json.dumps([ORIGIN]),
                "PAYMENTS_FAULTS_FOLDER": str(self.faults),
                **{f"PAYMENTS_STRIPE__{name}": text for name, text in chosen.items()},
            },
        )

    def process(self, role: str, *, port: int, stripe_settings: Mapping[str, str] | None = None) -> Process:
        """A payments process, not started."""
        return Process(
            f"payments {role}",
            [sys.executable, "-m", "services.payments", role],
            port=port,
            ready="/readyz",
            env=self.environment(port=port, stripe_settings=stripe_settings),
            log=self._folder / f"payments-{port}.log",
        )

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs an operator's command."""
        command = [sys.executable, "-m", "services.payments", *words]
        return subprocess.run(
            command, env=self.environment(port=1), cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
        )

    async def read_topic(self, stop: asyncio.Event) -> None:
        """Reads payment.succeeded as billing's group, so that confirm sees its readers catch up."""
        async with AIOKafkaConsumer(
            "payment.succeeded",
            bootstrap_servers=self.servers.kafka.bootstrap_servers,
            group_id="billing",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        ) as consumer:
            while not stop.is_set():
                batches = await consumer.getmany(timeout_ms=50)
                for records in batches.values():
                    for record in records:
                        event = decode(record.headers, record.value, now=datetime.now(UTC))
                        self._events[record.key.decode()].append(event)
                if batches:
                    await consumer.commit()

    def person(self, *, language: str = "en", system_admin: bool = False, admin: bool = True) -> Person:
        """A user in a mandate of their own."""
        mandate_id = f"m-{uuid4()}"
        caller = Caller(
            user_id=f"u-{uuid4()}", mandates={mandate_id: admin}, language=language, system_admin=system_admin
        )
        return Person(self, caller, mandate_id)

    async def pay(self, session_id: str, outcome: str = "paid", **webhooks: Any) -> None:
        answer = await self.control.post(
            f"/checkout/sessions/{session_id}/pay", json={"outcome": outcome, "webhooks": webhooks}
        )
        assert answer.status_code == 200, answer.text

    async def sessions(self) -> list[dict[str, Any]]:
        return list((await self.control.get("/checkout/sessions")).json())

    async def session_id_of(self, redirect_url: str) -> str:
        return next(str(entry["id"]) for entry in await self.sessions() if entry["url"] == redirect_url)

    async def send(self, event: Mapping[str, Any]) -> None:
        """Has the fake deliver an event, signed."""
        assert (await self.control.post("/events", json=event)).status_code == 200

    async def deliver(
        self,
        body: bytes,
        header: str | bytes | None = None,
        *,
        secret: str = SECRET,
        content_type: bytes | None = b"application/json; charset=utf-8",
    ) -> httpx.Response:
        """Delivers a body by hand, signed now unless a signature is given."""
        signed = header or stripe.WebhookSignature.generate_signature_header(body.decode(), secret)
        raw = signed if isinstance(signed, bytes) else signed.encode()
        typed = {} if content_type is None else {b"Content-Type": content_type}
        return await self.http.post(WEBHOOK, content=body, headers={b"Stripe-Signature": raw, **typed})

    async def rows(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(self.servers.dsn("payments", owner=True))
        try:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]
        finally:
            await connection.close()

    async def event_outcome(self, event_id: str, *, timeout_s: float = 15.0) -> str:
        async def outcome() -> Any:
            rows = await self.rows("SELECT outcome FROM webhook_events WHERE event_id = $1", event_id)
            return rows and rows[0]["outcome"]

        return str(await eventually(outcome, timeout_s=timeout_s))

    async def processed(self, session_id: str, *, count: int = 1) -> list[str]:
        """Waits until so many events about a session are processed, and gives their outcomes."""

        async def outcomes() -> Any:
            rows = await self.rows("SELECT outcome FROM webhook_events WHERE object_id = $1", session_id)
            found = [row["outcome"] for row in rows]
            return found if len(found) >= count and all(found) else None

        return sorted(await eventually(outcomes))

    async def published(self, mandate_id: str, *, count: int = 1, timeout_s: float = 15.0) -> list[Event]:
        """Waits until so many payments of a mandate are on the topic, lets late ones come, and gives them all."""

        async def enough() -> bool:
            return len(self._events[mandate_id]) >= count

        if count:
            await eventually(enough, timeout_s=timeout_s)
        await self._outbox_empty()
        await asyncio.sleep(0.3)
        return self._events[mandate_id]

    async def _outbox_empty(self) -> None:
        async def empty() -> bool:
            return not await self.rows("SELECT 1 FROM outbox")

        await eventually(empty)

    async def checkout_of(self, session_id: str) -> dict[str, Any]:
        (row,) = await self.rows("SELECT * FROM checkouts WHERE stripe_session_id = $1", session_id)
        return row

    def arm(self, point: str) -> Path:
        """Arms a fault point and gives the file that proves it was reached."""
        armed = self.faults / f"{point}.{uuid4().hex}.arm"
        armed.touch()
        return armed.with_suffix(".hit")
