"""Objects are read past the requests of Stripe's client: what Stripe is asked and what becomes of its
answer are as if the client had read them."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.chassis.problems import Problem
from services.payments.stripe import gateway
from services.payments.stripe.errors import StripeFailed, StripeNotConfigured, StripeObjectUnknown, StripeUnavailable
from services.payments.stripe.gateway import API_VERSION, StripeGateway, TopUp
from services.payments.stripe.invoices import read_invoice
from services.payments.stripe.payment_intents import read_intent
from services.payments.stripe.refunds import find_money_back
from services.payments.stripe.subscriptions import read_subscription

KEY = "sk_test_reads"
# Each is answered once: whether it is tried again Stripe says itself.
ANSWERS = [
    *((status, json.dumps({"error": {"type": "api_error", "message": "m"}})) for status in (401, 402, 403, 404, 409)),
    *((status, json.dumps({"error": {"type": "api_error", "message": "m"}})) for status in (400, 429, 500, 503)),
    (400, json.dumps({"error": {"type": "invalid_request_error", "code": "rate_limit", "message": "m"}})),
    (400, json.dumps({"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "m"}})),
    (404, json.dumps({"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "m"}})),
    (500, "<html>Bad gateway</html>"),
    (200, "<html>Not Stripe</html>"),
    (400, "<html>Bad request</html>"),
    (404, "<html>Not found</html>"),
    (404, "{}"),
]


class Place:
    """Stripe's place: answers what it is told to, and keeps what it is asked."""

    url: str

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.answers: list[tuple[int, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        status, text = self.answers.pop(0)
        headers = {"stripe-should-retry": "false", "Location": "/v1/elsewhere"}
        return web.Response(status=status, text=text, headers=headers, content_type="application/json")


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.answer)
    async with TestServer(app) as server:
        made.url = str(server.make_url("")).rstrip("/")
        yield made


@pytest_asyncio.fixture
async def stripe(place: Place) -> AsyncIterator[StripeGateway]:
    made = StripeGateway(KEY, api_base=place.url, timeout_s=10)
    yield made
    await made.stop()


async def by_the_client(stripe: StripeGateway, path: str, **params: Any) -> Any:
    assert stripe._client is not None
    return await gateway._answer(stripe._client.raw_request_async("get", path, **params))


@pytest.mark.parametrize(("status", "text"), ANSWERS)
async def test_what_is_no_object_is_the_error_that_the_client_makes_of_it(
    stripe: StripeGateway, place: Place, status: int, text: str
) -> None:
    place.answers = [(status, text), (status, text)]
    with pytest.raises(Problem) as by_client:
        await by_the_client(stripe, "/v1/customers/cus_1")
    with pytest.raises(Problem) as read:
        await stripe.read("customers", "cus_1")
    if status == 402:
        # A card is charged by no read, and nothing is declined by one.
        assert type(read.value) is StripeFailed
    else:
        assert type(read.value) is type(by_client.value)


async def test_a_page_of_something_in_between_does_not_say_that_stripe_has_no_such_object(
    stripe: StripeGateway, place: Place
) -> None:
    """What is not known is forgotten for good: a customer, an event about a payment."""
    place.answers = [(404, "<html>Not found</html>")] * 2
    with pytest.raises(StripeFailed):
        await stripe.read("customers", "cus_1")
    with pytest.raises(StripeFailed):
        await stripe.ask(lambda v1: v1.customers.create_async({}, {"idempotency_key": "k"}))


@pytest.mark.parametrize("text", ["[]", "null", '"Not Stripe"', "7", "<html>Not Stripe</html>", ""])
async def test_an_answer_to_a_change_that_is_no_object_is_a_fault_of_stripe(
    stripe: StripeGateway, place: Place, text: str
) -> None:
    """Which can be tried again: whether the change was made, the idempotency key says."""
    place.answers = [(200, text)] * 2
    top_up = TopUp(uuid4(), "mandate-1", None, Decimal(10), "CHF", "Credit", "Credit", "de", "https://a", "https://a")
    for call in (
        stripe.ask(lambda v1: v1.customers.create_async({}, {"idempotency_key": "k"})),
        stripe.open_top_up(top_up, idempotency_key="k"),
    ):
        with pytest.raises(StripeFailed) as failed:
            await call
        assert (failed.value.status, failed.value.code) == (503, "STRIPE_UNAVAILABLE")


async def test_stripe_is_asked_what_the_client_would_ask(stripe: StripeGateway, place: Place) -> None:
    params = {"expand": ["a.b", "c"], "created": {"gte": 1, "lt": 2}, "limit": 100, "customer": "cus_ü&x"}
    place.answers = [(200, "{}")] * 2
    await by_the_client(stripe, "/v1/invoices/in_1", **params)
    assert await stripe.read("invoices", "in_1", **params) == {}
    theirs, ours = place.asked
    assert (ours.path, list(ours.query.items())) == (theirs.path, list(theirs.query.items()))
    for name in ("Authorization", "Stripe-Version"):
        assert ours.headers[name] == theirs.headers[name]
    assert (ours.headers["Authorization"], ours.headers["Stripe-Version"]) == (f"Bearer {KEY}", API_VERSION)


async def test_pages_are_read_to_the_last(stripe: StripeGateway, place: Place) -> None:
    pages = [{"data": [{"id": "2"}], "has_more": True}, {"data": [{"id": "1"}], "has_more": False}]
    place.answers = [(200, json.dumps(page)) for page in pages]
    assert await stripe.read_list("refunds", limit=1) == [{"id": "2"}, {"id": "1"}]
    assert [dict(asked.query) for asked in place.asked] == [{"limit": "1"}, {"limit": "1", "starting_after": "2"}]


async def test_nobody_is_followed_elsewhere_with_the_key(stripe: StripeGateway, place: Place) -> None:
    place.answers = [(307, "{}"), (200, "{}")]
    with pytest.raises(StripeFailed):
        await stripe.read("customers", "cus_1")
    assert len(place.asked) == 1


async def test_an_id_names_nothing_but_an_object(stripe: StripeGateway, place: Place) -> None:
    place.answers = [(200, "{}")]
    await stripe.read("customers", "../refunds?x=1#y")
    assert place.asked[0].raw_path == "/v1/customers/..%2Frefunds%3Fx%3D1%23y"
    for no_id in (".", ".."):
        with pytest.raises(StripeObjectUnknown):
            await stripe.read("customers", no_id)
    assert len(place.asked) == 1


async def test_who_is_away_is_told_of_after_the_tries() -> None:
    nobody = StripeGateway(KEY, api_base="http://127.0.0.1:9", timeout_s=10)
    try:
        with pytest.raises(StripeUnavailable):
            await nobody.read("customers", "cus_1")
    finally:
        await nobody.stop()
    unset = StripeGateway(None, api_base=None, timeout_s=10)
    with pytest.raises(StripeNotConfigured):
        await unset.read("customers", "cus_1")


INTENT = {"id": "pi_1", "status": "succeeded", "amount_received": 5000, "currency": "chf", "created": 1_790_000_000}
SESSION = {
    "id": "cs_test_1",
    "payment_status": "paid",
    "amount_total": 5000,
    "currency": "chf",
    "created": 1_790_000_000,
    "payment_intent": INTENT,
}


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"data": None, "has_more": False},
        {"data": {"id": "re_1"}, "has_more": False},
        {"data": [None], "has_more": False},
        {"data": [{}], "has_more": False},
        # Whether there is more, nobody knows: a refund that is not seen would be told of by nobody.
        {"data": [{"id": "re_1"}]},
        {"data": [{"id": "re_1"}], "has_more": None},
        # What leads nowhere, or in a circle, would be followed for ever.
        {"data": [], "has_more": True},
        {"data": [{"id": "re_1"}], "has_more": True},
        {"object": "refund", "id": "re_1"},
    ],
)
async def test_what_is_no_page_of_a_list_is_no_answer(stripe: StripeGateway, place: Place, page: object) -> None:
    place.answers = [(200, json.dumps(page))] * 9
    with pytest.raises(StripeUnavailable) as failed:
        await stripe.read_list("refunds", limit=1)
    # What was asked for is asked for again with the key that it had.
    assert type(failed.value) is StripeUnavailable
    assert len(place.asked) <= 2


@pytest.mark.parametrize(
    "changed",
    [
        {"id": None},
        # Of somebody else.
        {"id": "cs_test_2"},
        {"payment_status": ...},
        {"created": None},
        {"created": "yesterday"},
        {"created": 10**30},
        {"currency": 7},
        {"amount_total": "much"},
        {"amount_total": {"chf": 1}},
        {"payment_intent": {}},
        {"payment_intent": {**INTENT, "currency": None}},
        {"payment_intent": {**INTENT, "amount_received": None}},
        {"payment_intent": {**INTENT, "latest_charge": {}}},
        {"payment_intent": {**INTENT, "latest_charge": {"created": None}}},
    ],
)
async def test_a_session_of_another_shape_is_no_answer(
    stripe: StripeGateway, place: Place, changed: dict[str, Any]
) -> None:
    shape = {name: value for name, value in {**SESSION, **changed}.items() if value is not ...}
    place.answers = [(200, json.dumps(SESSION)), (200, json.dumps(shape))]
    assert (await stripe.checkout_session("cs_test_1")).amount_total == 50
    with pytest.raises(StripeUnavailable) as failed:
        await stripe.checkout_session("cs_test_1")
    assert (type(failed.value), failed.value.status) == (StripeUnavailable, 503)


REFUND = {"id": "re_1", "amount": 700, "currency": "chf", "status": "succeeded", "created": 1_790_000_000}
SUBSCRIPTION = {"id": "sub_1", "status": "active", "items": {"data": [{"id": "si_1", "quantity": 1}]}}
INVOICE = {"id": "in_1", "total": 700, "currency": "chf", "status": "paid"}


@pytest.mark.parametrize(
    ("read", "right", "changed"),
    [
        (lambda each: find_money_back(each, "re_1"), REFUND, {"amount": None}),
        (lambda each: find_money_back(each, "re_1"), REFUND, {"created": None}),
        (lambda each: find_money_back(each, "re_1"), REFUND, {"id": "re_2"}),
        (lambda each: read_subscription(each, "sub_1"), SUBSCRIPTION, {"status": ...}),
        (lambda each: read_subscription(each, "sub_1"), SUBSCRIPTION, {"items": {"data": [{}]}}),
        (lambda each: read_subscription(each, "sub_1"), SUBSCRIPTION, {"trial_end": 10**30}),
        (lambda each: read_invoice(each, "in_1"), INVOICE, {"id": ...}),
        (lambda each: read_invoice(each, "in_1"), INVOICE, {"total": [1]}),
        (lambda each: read_invoice(each, "in_1"), INVOICE, {"amount_paid": "much"}),
        (lambda each: read_intent(each, "pi_1"), INTENT, {"status": ...}),
    ],
)
async def test_an_object_of_another_shape_is_no_answer(
    stripe: StripeGateway,
    place: Place,
    read: Callable[[StripeGateway], Awaitable[Any]],
    right: dict[str, Any],
    changed: dict[str, Any],
) -> None:
    shape = {name: value for name, value in {**right, **changed}.items() if value is not ...}
    place.answers = [(200, json.dumps(right)), (200, json.dumps(shape))]
    await read(stripe)
    with pytest.raises(StripeUnavailable) as failed:
        await read(stripe)
    assert type(failed.value) is StripeUnavailable
