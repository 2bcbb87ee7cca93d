"""What the tests of payments work with: the service and the fake Stripe as processes, and a reader of its topic."""

import asyncio
import contextlib
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import stripe
from aiokafka import ConsumerRecord

from deploy.local.ports import free_port
from rappen_contracts import Event, decode, encode
from rappen_contracts.registry import EventVersion
from rappen_contracts.types import Contract
from services.billing.pricing import LATEST
from services.chassis.caller import Caller
from tests.support.callers import headers
from tests.support.databases import connected
from tests.support.events import RawRecord, new_mandate, publish
from tests.support.fakestripe import FakeStripe
from tests.support.processes import ServiceProcess, run_command
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

__all__ = ["API_KEY", "ORIGIN", "OTHER_SECRET", "SECRET", "WEBHOOK", "Person", "World"]

ORIGIN = "https://app.example.ch"
API_KEY = "sk_test_integration"
SECRET = "whsec_of_the_fake_stripe"
OTHER_SECRET = "whsec_being_rolled_out"
WEBHOOK = "/api/billing/webhook/stripe"


@dataclass(frozen=True)
class Person:
    """A user with a fresh mandate; `headers` are what the gateway would send along."""

    world: "World"
    caller: Caller
    mandate_id: str

    @property
    def headers(self) -> dict[str, str]:
        signed = headers(self.caller, audience="payments", secret=self.world.servers.secret)
        return signed | {"Accept-Language": self.caller.language}

    async def create(self, *, mandate_id: str | None = None, key: str | None = None, **body: Any) -> httpx.Response:
        order = {"amount": 25, "returnUrl": f"{ORIGIN}/billing", **body}
        given = self.headers | ({"Idempotency-Key": key} if key is not None else {})
        return await self.world.http.post(
            f"/api/billing/checkout/create/{mandate_id or self.mandate_id}", json=order, headers=given
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
        port = free_port()
        webhook_url = f"http://127.0.0.1:{port}{WEBHOOK}"
        self.fake = FakeStripe(webhook_url=webhook_url, webhook_secret=SECRET, log=folder / "fakestripe.log")
        self._stripe_settings = {
            "API_KEY": API_KEY,
            "API_BASE": self.fake.url,
            "WEBHOOK_SECRETS": json.dumps([SECRET, OTHER_SECRET]),
        }
        self.service = self.process("all", port=port)
        self.http = httpx.AsyncClient(base_url=self.service.url, timeout=30)
        self.control = httpx.AsyncClient(base_url=f"{self.fake.url}/_control", timeout=30)
        self.stripe = stripe.StripeClient(
            API_KEY, base_addresses={"api": self.fake.url}, http_client=stripe.HTTPXClient(), max_network_retries=0
        )
        # What has come on payment.succeeded, and on the other topics of this service.
        self.records: Sequence[ConsumerRecord] = ()
        self.others: Mapping[str, Sequence[ConsumerRecord]] = {}

    def settings(self, stripe_settings: Mapping[str, str]) -> dict[str, str]:
        return {
            "PAYMENTS_RETURN_ORIGINS": json.dumps([ORIGIN]),
            "PAYMENTS_FAULTS_FOLDER": str(self.faults),
            # The shortest that the broker allows, so that what a killed process read comes to the next one soon.
            "PAYMENTS_KAFKA__SESSION_TIMEOUT_MS": "6000",
            **{f"PAYMENTS_STRIPE__{name}": text for name, text in stripe_settings.items()},
        }

    def process(
        self, role: str, *, port: int | None = None, stripe_settings: Mapping[str, str] | None = None
    ) -> ServiceProcess:
        """A payments process, not started."""
        chosen = self._stripe_settings if stripe_settings is None else stripe_settings
        log = self._folder / f"payments-{uuid4().hex}.log"
        return ServiceProcess(self.servers, "payments", role, log, port=port, more=self.settings(chosen))

    def command(self, *words: str, input_: str = "") -> subprocess.CompletedProcess[str]:
        """Runs an operator's command."""
        settings = self.settings(self._stripe_settings)
        return run_command(self.servers, "payments", *words, more=settings, input_=input_)

    def person(self, *, language: str = "en", system_admin: bool = False, admin: bool = True) -> Person:
        """A user in a mandate of their own."""
        mandate_id = new_mandate()
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
        async with connected(self.servers.dsn("payments", owner=True)) as connection:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]

    async def event_outcome(self, event_id: str) -> str:
        async def outcome() -> Any:
            rows = await self.rows("SELECT outcome FROM webhook_events WHERE event_id = $1", event_id)
            return rows and rows[0]["outcome"]

        return str(await eventually(outcome, what=f"the outcome of {event_id}"))

    async def processed(self, session_id: str, *, count: int = 1) -> list[str]:
        """Waits until so many events about a session are processed, and gives their outcomes."""

        async def outcomes() -> Any:
            rows = await self.rows("SELECT outcome FROM webhook_events WHERE object_id = $1", session_id)
            found = [row["outcome"] for row in rows]
            return found if len(found) >= count and all(found) else None

        return sorted(await eventually(outcomes, what=f"{count} outcomes"))

    async def published(self, mandate_id: str, *, count: int = 1) -> list[Event]:
        """Waits until so many payments of a mandate are on the topic, lets late ones come, and gives them all. As with
        `told`, the fake's time may be ahead of ours."""

        await eventually(lambda: len(self._events(mandate_id)) >= count, what=f"{count} events")
        await eventually(self._is_outbox_empty, what="an empty outbox")
        await asyncio.sleep(0.3)
        return self._events(mandate_id)

    def _events(self, mandate_id: str) -> list[Event]:
        return [
            decode(record.headers, record.value, now=LATEST)
            for record in self.records
            if record.key == mandate_id.encode()
        ]

    async def ask(self, version: EventVersion, *asked: Contract) -> None:
        """Publishes what another service asks for, in one order."""
        records = []
        for data in asked:
            mandate_id: str = getattr(data, "mandate_id")  # noqa: B009 - every event of these topics has one.
            record = encode(
                data, type=version.type, id=uuid4(), source="/tests", time=datetime.now(UTC), key=mandate_id
            )
            records.append(RawRecord(value=record.value, headers=record.headers, key=record.key))
        await publish(self.servers.kafka.bootstrap_servers, records, version.name)

    async def told(self, version: EventVersion, mandate_id: str, *, count: int = 1) -> list[Any]:
        """Waits until so many events of a mandate are on a topic, lets late ones come, and gives the data of all. The
        fake's time, which some of them have, may be ahead of ours."""
        found = self.others[version.name]

        def theirs() -> list[Any]:
            return [
                decode(record.headers, record.value, now=LATEST).data
                for record in found
                if record.key == mandate_id.encode()
            ]

        what = f"{count} events on {version.name}"
        await eventually(lambda: len(theirs()) >= count, what=what)
        await eventually(self._is_outbox_empty, what="an empty outbox")
        await asyncio.sleep(0.2)
        return theirs()

    async def fault(
        self, path: str, status: int, *, times: int, after_effect: bool = False, method: str | None = None
    ) -> None:
        """Has the fake answer the next requests so."""
        body = {"path": path, "status": status, "times": times, "after_effect": after_effect, "method": method}
        answer = await self.control.post(
            "/faults", json={name: each for name, each in body.items() if each is not None}
        )
        assert answer.status_code == 200, answer.text

    async def expire(self, request_id: UUID) -> None:
        """Ends the time of a request of another service, once it was tried in vain."""
        tried = "SELECT 1 FROM stripe_requests WHERE request_id = $1 AND error IS NOT NULL"
        await eventually(lambda: self.rows(tried, request_id), what="a try in vain")
        await self.rows("UPDATE stripe_requests SET expires_at = now() WHERE request_id = $1", request_id)

    @contextlib.asynccontextmanager
    async def unavailable(self, path: str, method: str | None = None) -> AsyncIterator[None]:
        """Has the fake answer every request to `path` with 503 meanwhile, and proves that there was one."""
        await self.fault(path, 503, times=1_000, method=method)
        yield
        answer = await self.control.delete("/faults")
        assert answer.status_code == 200, answer.text
        assert next(each["times"] for each in answer.json() if each["path"] == path) < 1_000

    async def killed(self, hit: Path) -> None:
        """Waits until the service has died where it was told to, and starts it again.

        What it had taken is due at once. By itself it would be when the lease is over, which takes many seconds.
        """
        await self.died(hit)
        for statement in (
            "UPDATE webhook_events SET next_attempt_at = now() WHERE processed_at IS NULL",
            "UPDATE stripe_requests SET next_attempt_at = now() WHERE settled_at IS NULL",
        ):
            await self.rows(statement)
        await self.restart()

    async def died(self, hit: Path) -> None:
        """Waits until the service has died where it was told to."""
        assert await asyncio.to_thread(self.service.wait) == -signal.SIGKILL
        assert await asyncio.to_thread(hit.exists)

    async def restart(self) -> None:
        """Starts the service again."""
        self.service.start()
        await self.service.ready()

    async def _is_outbox_empty(self) -> bool:
        return not await self.rows("SELECT 1 FROM outbox")

    async def checkout_of(self, session_id: str) -> dict[str, Any]:
        (row,) = await self.rows("SELECT * FROM checkouts WHERE stripe_session_id = $1", session_id)
        return row

    def arm(self, point: str) -> Path:
        """Arms a fault point and gives the file that proves it was reached."""
        armed = self.faults / f"{point}.{uuid4().hex}.arm"
        armed.touch()
        return armed.with_suffix(".hit")
