"""Webhooks: one delivery per event and endpoint, signed like Stripe's, retried until answered with 2xx."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import orjson

from deploy.fakestripe.store import Json, Store

ATTEMPT_TIMEOUT_S = 10.0
MAX_BACK_OFF_S = 60
GIVE_UP_AFTER_S = 3 * 24 * 3600
MAX_CONCURRENT_BATCHES = 16
TICK_S = 1.0
PRUNE_EVERY_S = 600.0
MAX_ERROR_LENGTH = 300

logger = logging.getLogger("fakestripe.webhooks")


@dataclass(frozen=True)
class Disturbance:
    """How the deliveries of one effect go wrong on purpose.

    `duplicate` counts extra copies, `delay_s` is in the fake's own time, `shuffle` sends in another order than
    things happened, `drop` never sends at all.
    """

    duplicate: int = 0
    delay_s: float = 0.0
    shuffle: bool = False
    drop: bool = False


def sign(payload: bytes, secret: str, timestamp: int) -> str:
    """Return the Stripe-Signature header of a body sent at a time (seconds since 1970)."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def ensure_endpoint(store: Store, url: str, secret: str, api_version: str) -> None:
    """Have the endpoint of the command line; after a restart it keeps its id, so open deliveries follow the URL."""
    endpoints = store.table("webhook_endpoint")
    key = next((row["endpoint"] for row in store.table("command_line").values()), None)
    if key is None:
        key = store.new_id("we_")
        store.add("command_line", {"id": "webhook", "endpoint": key})
        row = endpoint_object(key, url, ["*"], api_version, store.now())
        row["description"] = "The endpoint of the command line"
        store.add("webhook_endpoint", row)
    endpoints[key]["url"] = url
    store.table("webhook_secret")[key] = {"id": key, "secret": secret}
    store.touch()


def endpoint_object(key: str, url: str, enabled_events: list[str], api_version: str, created: int) -> Json:
    """Build a webhook endpoint; its secret is kept apart, because Stripe shows it only when it is made."""
    return {
        "id": key,
        "object": "webhook_endpoint",
        "api_version": api_version,
        "application": None,
        "created": created,
        "description": None,
        "enabled_events": enabled_events,
        "livemode": False,
        "metadata": {},
        "status": "enabled",
        "url": url,
    }


class Outbox:
    """Turns events into persisted deliveries."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        self._store = store
        self._rng = rng
        self.changed = asyncio.Event()
        # How deliveries go wrong where an effect does not say so itself.
        self.standing = Disturbance()
        self.pending = {key: row for key, row in store.table("delivery").items() if row["state"] == "pending"}

    def schedule(self, events: list[Json], disturbance: Disturbance | None = None) -> None:
        """Make the deliveries of events that belong together.

        What one effect causes is a batch and sent in order, one after the other. Every extra copy is a batch of
        its own, so the copies of an event reach the receiver at the same time.
        """
        how = disturbance if disturbance is not None and disturbance != Disturbance() else self.standing
        for event in events:
            waiting = self._endpoints(event["type"])
            self._store.add("undelivered", {"id": event["id"], "endpoints": waiting})
            event["pending_webhooks"] = len(waiting)
        for _ in range(1 + how.duplicate):
            order = self._shuffled(events) if how.shuffle else events
            batch = self._store.new_id("batch_")
            for event in order:
                for endpoint in self._endpoints(event["type"]):
                    self._add(event, endpoint, batch, how)
        self._store.touch()
        self.changed.set()

    def schedule_given(self, event: Json) -> list[str]:
        """Make the deliveries of an event object that is not ours, sent exactly as given; return their ids."""
        batch = self._store.new_id("batch_")
        made = [
            self._add(event, endpoint, batch, Disturbance(), payload=event)
            for endpoint in self._endpoints(event["type"])
        ]
        self._store.touch()
        self.changed.set()
        return made

    def _add(self, event: Json, endpoint: str, batch: str, how: Disturbance, payload: Json | None = None) -> str:
        row: Json = {
            "id": self._store.new_id("whd_"),
            "event": event["id"],
            "type": event["type"],
            "endpoint": endpoint,
            "batch": batch,
            "state": "dropped" if how.drop else "pending",
            "attempts": 0,
            "last_status": None,
            "last_error": None,
            "created": self._store.now(),
            "due": self._store.precise_now() + how.delay_s,
            "payload": payload,
        }
        self._store.add("delivery", row)
        if not how.drop:
            self.pending[row["id"]] = row
        return str(row["id"])

    def _shuffled(self, events: list[Json]) -> list[Json]:
        """Return another order: three or more events reversed and rotated are never as they happened."""
        order = events[::-1]
        turn = self._rng.randrange(len(order)) if len(order) > 2 else 0
        return order[turn:] + order[:turn]

    def _endpoints(self, event_type: str) -> list[str]:
        return [
            row["id"]
            for row in self._store.table("webhook_endpoint").values()
            if row["status"] == "enabled" and ({"*", event_type} & set(row["enabled_events"]))
        ]


class Dispatcher:
    """Sends due deliveries in the background and runs the fake's timers."""

    def __init__(self, store: Store, outbox: Outbox, run_timers: Callable[[], None]):
        self._store = store
        self._outbox = outbox
        self._run_timers = run_timers
        self._busy: set[str] = set()
        self._pruned_at = store.precise_now()

    async def run(self) -> None:
        """Work until cancelled."""
        # Webhooks go where they are told to: by default no proxy of the environment is asked.
        async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as tasks:
            while True:
                self._outbox.changed.clear()
                self.run_timers()
                for batch, rows in self._due().items():
                    if len(self._busy) >= MAX_CONCURRENT_BATCHES:
                        break
                    self._busy.add(batch)
                    tasks.create_task(self._send_batch(client, batch, rows))
                await self._store.saved()
                try:
                    async with asyncio.timeout(self._pause_s()):
                        await self._outbox.changed.wait()
                except TimeoutError:
                    continue

    def run_timers(self) -> None:
        """Let everything happen whose time has come, and forget what is too old."""
        self._run_timers()
        if self._store.precise_now() - self._pruned_at > PRUNE_EVERY_S:
            self._store.prune()
            self._pruned_at = self._store.precise_now()

    def _pending(self) -> list[Json]:
        return [row for row in self._outbox.pending.values() if row["batch"] not in self._busy]

    def _due(self) -> dict[str, list[Json]]:
        now = self._store.precise_now()
        batches: dict[str, list[Json]] = {}
        for row in self._pending():
            if row["due"] <= now:
                batches.setdefault(row["batch"], []).append(row)
        return batches

    def _pause_s(self) -> float:
        if len(self._busy) >= MAX_CONCURRENT_BATCHES:
            return TICK_S
        now = self._store.precise_now()
        next_due = min((row["due"] for row in self._pending()), default=now + TICK_S)
        return max(0.0, min(TICK_S, next_due - now))

    async def _send_batch(self, client: aiohttp.ClientSession, batch: str, rows: list[Json]) -> None:
        try:
            for row in rows:
                await self._attempt(client, row)
        finally:
            self._busy.discard(batch)
            self._outbox.changed.set()

    async def _attempt(self, client: aiohttp.ClientSession, row: Json) -> None:
        event = row["payload"] or self._store.table("event")[row["event"]]
        body = orjson.dumps(event)
        secret = self._store.table("webhook_secret")[row["endpoint"]]["secret"]
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (fake Stripe)",
            # The machine's time, not the fake's: receivers compare it with their own clock.
            "Stripe-Signature": sign(body, secret, int(self._store.wall_time())),
        }
        url = self._store.table("webhook_endpoint")[row["endpoint"]]["url"]
        status, problem = None, None
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                # No redirect is followed.
                async with client.post(url, data=body, headers=headers, allow_redirects=False) as response:
                    status = response.status
        except TimeoutError:
            problem = f"no answer within {ATTEMPT_TIMEOUT_S:g} s"
        except (aiohttp.ClientError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"[:MAX_ERROR_LENGTH]
        self._settle(row["id"], status, problem)
        self._store.touch()

    def _settle(self, key: str, status: int | None, problem: str | None) -> None:
        now = self._store.precise_now()
        row = self._store.table("delivery")[key]
        row |= {"last_status": status, "last_error": problem, "attempts": row["attempts"] + 1}
        if status is not None and 200 <= status < 300:
            row["state"] = "delivered"
            del self._outbox.pending[row["id"]]
            self._note_accepted(row)
            return
        why = problem or f"status {status}"
        logger.warning("%s (%s) not accepted, attempt %d: %s", row["event"], row["type"], row["attempts"], why)
        if now - row["created"] > GIVE_UP_AFTER_S:
            row["state"] = "given_up"
            del self._outbox.pending[row["id"]]
        else:
            row["due"] = now + min(MAX_BACK_OFF_S, 2 ** min(row["attempts"] - 1, 10))

    def _note_accepted(self, row: Json) -> None:
        """Take the endpoint off the event's list; further copies of the event change nothing."""
        waiting = self._store.table("undelivered").get(row["event"])
        if row["payload"] is None and waiting is not None and row["endpoint"] in waiting["endpoints"]:
            waiting["endpoints"].remove(row["endpoint"])
            self._store.table("event")[row["event"]]["pending_webhooks"] = len(waiting["endpoints"])
