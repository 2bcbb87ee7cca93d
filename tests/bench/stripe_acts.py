"""What payers have done at the fake Stripe, and the events that tell of it: top-ups, some of them refunded, and
subscriptions begun, opened by the code of payments itself and paid at the fake."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx

from services.chassis.database import Database
from services.payments.checkouts.domain import TOP_UP, Checkout, CheckoutState
from services.payments.checkouts.repository import add_checkout, save_session
from services.payments.inbox.event_types import fetch_for
from services.payments.plans.domain import FEATURE_INSTANCES, MEMBERS
from services.payments.stripe.gateway import StripeGateway, TopUp
from services.payments.stripe.prices import PriceOrder, ProductOrder, create_price, put_product
from services.payments.stripe.subscriptions import SubscriptionOrder, open_subscription
from services.payments.subscriptions.repository import add_record
from services.payments.subscriptions.repository import save_session as save_subscription_session

__all__ = ["API_KEY", "Acts", "StripeActs", "stripe_acts"]

API_KEY = "sk_test_bench"
PLAN = "BENCH"
SHOP = "https://bench.example/"
# Of nine payers six top up, two of whom are given their money back, and three begin a subscription.
PAYERS = ("top_up", "refund", "subscription", "top_up", "top_up", "subscription", "refund", "top_up", "subscription")
AT_ONCE = 8
# The most that a page of a list has.
PAGE = 100


@dataclass(frozen=True, slots=True)
class Acts:
    """The bodies of the events that payments listens to, in the order in which things happened, and of what they tell:
    how many payments, refunds and subscriptions."""

    events: Sequence[bytes]
    payments: int
    refunds: int
    subscriptions: int


class StripeActs:
    """Makes what payers do, in our records and at the fake."""

    def __init__(self, database: Database, stripe: StripeGateway, fake: httpx.AsyncClient) -> None:
        self._database = database
        self._stripe = stripe
        self._fake = fake
        self._prices: list[str] = []
        self._newest: str | None = None

    async def prepare(self) -> None:
        """The plan that is subscribed to. Events are read from the fake, which sends none by itself."""
        await self._put("/_control/webhooks", {"drop": True})
        product = ProductOrder(id=f"rappen_{PLAN}", name="Bench", plan_key=PLAN)
        await put_product(self._stripe, product, exists=False, idempotency_key=f"product:{uuid4()}")
        for kind in (MEMBERS, FEATURE_INSTANCES):
            order = PriceOrder(f"rappen_{PLAN}_{kind}", product.id, Decimal(20), "month", kind, PLAN, kind)
            price = await create_price(self._stripe, order, idempotency_key=f"price:{uuid4()}")
            self._prices.append(price.id)
        # The plan's own are not counted.
        self._newest = (await self._events_since(None))[0]["id"]

    async def at_least(self, events: int) -> Acts:
        """Has payers do things until so many events tell of them."""
        bodies: list[bytes] = []
        done: list[str] = []
        while len(bodies) < events:
            round_ = [PAYERS[(len(done) + number) % len(PAYERS)] for number in range(10 * len(PAYERS))]
            gate = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(*(self._act(kind, gate) for kind in round_))
            done += round_
            bodies += await self._new_events()
        subscriptions = done.count("subscription")
        return Acts(bodies, len(done) - subscriptions, done.count("refund"), subscriptions)

    async def _act(self, kind: str, gate: asyncio.Semaphore) -> None:
        async with gate:
            if kind == "subscription":
                await self._subscribe()
                return
            intent_id = await self._top_up()
            if kind == "refund":
                await self._stripe.ask(lambda v1: v1.refunds.create_async({"payment_intent": intent_id}))

    async def _top_up(self) -> str:
        """The id of its payment."""
        checkout = _checkout(datetime.now(UTC))
        order = TopUp(
            checkout_id=checkout.id,
            mandate_id=checkout.mandate_id,
            user_id=None,
            amount=checkout.amount,
            currency=checkout.currency,
            name="Credit top-up",
            description="Stripe payment",
            language=checkout.language,
            success_url=checkout.success_url,
            cancel_url=checkout.cancel_url,
        )
        session = await self._stripe.open_top_up(order, idempotency_key=f"checkout:{checkout.id}")
        async with self._database.transaction() as connection:
            await add_checkout(connection, checkout)
            await save_session(connection, checkout.id, session_id=session.id, url=session.url, now=checkout.created_at)
        return str((await self._pay(session.id))["payment_intent"])

    async def _subscribe(self) -> None:
        mandate_id, subscription_id = f"bench-{uuid4()}", uuid4()
        customer = await self._stripe.ask(lambda v1: v1.customers.create_async({"metadata": {"mandateId": mandate_id}}))
        order = SubscriptionOrder(
            subscription_id=subscription_id,
            mandate_id=mandate_id,
            plan_key=PLAN,
            customer_id=customer["id"],
            quantities=[(price, 2) for price in self._prices],
            trial_until=None,
            success_url=SHOP,
            cancel_url=SHOP,
            language="de",
        )
        session = await open_subscription(self._stripe, order, idempotency_key=f"subscription:{subscription_id}")
        await self._record(subscription_id, mandate_id, session.id)
        await self._pay(session.id)

    async def _record(self, subscription_id: UUID, mandate_id: str, session_id: str) -> None:
        now = datetime.now(UTC)
        async with self._database.transaction() as connection:
            await add_record(connection, subscription_id, mandate_id=mandate_id, plan_key=PLAN, now=now)
            await save_subscription_session(connection, subscription_id, session_id, now)

    async def _pay(self, session_id: str) -> dict[str, Any]:
        return await self._put(f"/_control/checkout/sessions/{session_id}/pay", {"outcome": "paid"})

    async def _put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._fake.post(path, json=body)
        answer.raise_for_status()
        return dict(answer.json())

    async def _new_events(self) -> list[bytes]:
        """What has happened since the last look, as the fake would send it, of the types that payments listens to."""
        bodies: list[bytes] = []
        while page := await self._events_since(self._newest):
            self._newest = page[0]["id"]
            bodies += [json.dumps(event).encode() for event in reversed(page) if fetch_for(event["type"])]
        return bodies

    async def _events_since(self, event_id: str | None) -> list[dict[str, Any]]:
        """The page of events that follows one, newest first; without one, the newest."""
        params = {"limit": str(PAGE)} | ({} if event_id is None else {"ending_before": event_id})
        answer = await self._fake.get("/v1/events", params=params, headers={"Authorization": f"Bearer {API_KEY}"})
        answer.raise_for_status()
        return list(answer.json()["data"])


def _checkout(now: datetime) -> Checkout:
    checkout_id = uuid4()
    return Checkout(
        id=checkout_id,
        purpose=TOP_UP,
        mandate_id=f"bench-{checkout_id}",
        user_id=None,
        created_by_user_id="bench",
        language="de",
        amount=Decimal(25),
        currency="CHF",
        success_url=SHOP,
        cancel_url=SHOP,
        idempotency_key=None,
        request_digest=b"",
        stripe_attempt=1,
        stripe_session_id=None,
        redirect_url=None,
        state=CheckoutState.OPEN,
        created_at=now,
        updated_at=now,
    )


@asynccontextmanager
async def stripe_acts(database: Database, fake_url: str) -> AsyncIterator[StripeActs]:
    """What can be done at a fake that has just been started."""
    stripe = StripeGateway(API_KEY, api_base=fake_url, timeout_s=30)
    try:
        async with httpx.AsyncClient(base_url=fake_url, trust_env=False, timeout=60) as fake:
            acts = StripeActs(database, stripe, fake)
            await acts.prepare()
            yield acts
    finally:
        await stripe.stop()
