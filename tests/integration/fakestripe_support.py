"""What the tests of the fake Stripe need: its process, a receiver of webhooks, and what they begin with."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import stripe
import stripe.checkout
from stripe import StripeObject

from tests.support.fakestripe import FakeStripe
from tests.support.stripe_described import StripeAnswers
from tests.support.waiting import eventually

KEY = "sk_test_integration"
SECRET = "whsec_integration_secret"
WAIT_TIMEOUT_S = 15.0

Json = dict[str, Any]


class Receiver:
    """A web server that keeps every webhook, shows it to `see`, and answers as it is told (200 by default)."""

    def __init__(self, see: Callable[[Json], None]) -> None:
        self.received: list[tuple[bytes, str]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                see(json.loads(body))
                receiver.received.append((body, self.headers["Stripe-Signature"]))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def events(self, text: str = "") -> list[stripe.Event]:
        """Return the events whose body has the text, in order of arrival, each signature checked by the SDK."""
        return [
            stripe.Webhook.construct_event(body, signature, SECRET)
            for body, signature in list(self.received)
            if text.encode() in body
        ]

    def types(self, text: str = "") -> list[str]:
        """Return the types of those events."""
        return [event.type for event in self.events(text)]


class FakeStripeProcess(FakeStripe):
    """The fake Stripe, ready, and how its tests use it."""

    def __init__(self, webhook_url: str, *options: str) -> None:
        super().__init__(*options, webhook_url=webhook_url, webhook_secret=SECRET)
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=10.0, auth=(KEY, ""))
        self.start()
        try:
            self.wait_ready()
        except AssertionError:
            self.stop()
            raise

    def control(self, path: str, body: Json, status: int = 200) -> Json:
        """Use the control surface, expecting a status."""
        answer = self.http.post(f"/_control/{path}", json=body)
        assert answer.status_code == status, answer.text
        result: Json = answer.json()
        return result

    def pay(self, session_id: str, outcome: str, status: int = 200, **webhooks: object) -> Json:
        """Let a checkout session be paid (or not)."""
        body = {"outcome": outcome, **({"webhooks": webhooks} if webhooks else {})}
        return self.control(f"checkout/sessions/{session_id}/pay", body, status)

    def pay_by_twint(self, session_id: str, outcome: str, status: int = 200) -> Json:
        """Let a checkout session be paid in TWINT's app (or not)."""
        return self.control(f"checkout/sessions/{session_id}/pay", {"outcome": outcome, "method": "twint"}, status)

    def deliveries(self, event_id: str) -> list[Json]:
        """Return the log of an event's deliveries."""
        rows: list[Json] = self.http.get("/_control/deliveries").json()
        return [row for row in rows if row["event"] == event_id]


# Makes ids, keys and addresses of one test run differ from each other.
numbers = itertools.count(1)


@pytest.fixture(scope="session")
def receiver(stripe_answers: StripeAnswers) -> Iterator[Receiver]:
    """The receiver of the shared fake's webhooks."""
    made = Receiver(stripe_answers.sent)
    yield made
    made.close()


@pytest.fixture(scope="session")
def fake(receiver: Receiver) -> Iterator[FakeStripeProcess]:
    """One fake Stripe for all tests that leave its clock alone."""
    made = FakeStripeProcess(receiver.url)
    yield made
    made.stop()


@pytest.fixture
def client(fake: FakeStripeProcess) -> stripe.StripeClient:
    """The official client, pointed at the shared fake."""
    return client_of(fake)


def client_of(fake: FakeStripeProcess, *, retries: int = 0, key: str = KEY) -> stripe.StripeClient:
    """Return the official client, pointed at a fake."""
    http = stripe.HTTPXClient(timeout=10)
    return stripe.StripeClient(key, http_client=http, max_network_retries=retries, base_addresses={"api": fake.url})


@dataclass(frozen=True)
class Plan:
    """What a subscription is ordered with: a price for members and one for instances, of one product each."""

    members: str
    instances: str

    def items(self, members: int = 2, instances: int = 1) -> Any:
        """Return the items for so many members and instances."""
        return [{"price": self.members, "quantity": members}, {"price": self.instances, "quantity": instances}]


async def make_plan(client: stripe.StripeClient, *, interval: str = "month", cents: int = 1000) -> Plan:
    """Make a plan: so much per member, and CHF 5.00 per instance."""
    ids = []
    for name, amount in (("Members", cents), ("Instances", 500)):
        product = await client.v1.products.create_async({"name": name})
        recurring: Any = {"interval": interval}
        price = await client.v1.prices.create_async(
            {"product": product.id, "currency": "chf", "unit_amount": amount, "recurring": recurring}
        )
        ids.append(price.id)
    return Plan(*ids)


async def customer_with(client: stripe.StripeClient, card: str = "pm_card_visa") -> stripe.Customer:
    """Make a customer whose default payment method is a test card."""
    customer = await client.v1.customers.create_async({"email": f"payer{next(numbers)}@example.com"})
    method = await client.v1.payment_methods.attach_async(card, {"customer": customer.id})
    return await client.v1.customers.update_async(
        customer.id, {"invoice_settings": {"default_payment_method": method.id}}
    )


def checkout_params(unit_amount: int = 2500, **more: Any) -> Any:
    """Return the parameters of a checkout in CHF, in the smallest unit; `more` replaces members."""
    return {
        "mode": "payment",
        "client_reference_id": f"top-up-{next(numbers)}",
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": "chf",
                    "unit_amount": unit_amount,
                    "product_data": {"name": "Guthaben & <mehr>"},
                },
            }
        ],
        "metadata": {"mandateId": "m1", "0": "zero"},
        "payment_intent_data": {"metadata": {"kind": "top_up"}, "description": "Guthaben"},
        "success_url": "https://shop.example/back?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://shop.example/cancel",
        "locale": "de",
        **more,
    }


def with_changes(params: Any, **changes: Any) -> Any:
    """Return parameters with some members added or replaced."""
    return {**params, **changes}


async def open_session(client: stripe.StripeClient, **more: Any) -> stripe.checkout.Session:
    """Make a checkout session with those parameters."""
    return await client.v1.checkout.sessions.create_async(checkout_params(**more))


async def arrived(receiver: Receiver, text: str, *event_types: str) -> list[stripe.Event]:
    """Wait until every type has come about the text, and return all events about it."""
    what = f"{event_types} about {text}"
    await eventually(lambda: set(event_types) <= set(receiver.types(text)), what=what, timeout_s=WAIT_TIMEOUT_S)
    return receiver.events(text)


def plain(subject: StripeObject) -> Json:
    """Return an SDK object as plain JSON."""
    result: Json = json.loads(json.dumps(subject.to_dict(for_json=True)))
    return result
