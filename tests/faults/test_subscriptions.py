"""Paid plans under kills: around each commit of a start, an observation, an end by the clock and a change of
quantities. Whatever dies, everything is asked once, told once and credited once.

Upon servers of its own, so that nobody else answers in payments' place."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from rappen_contracts.directory.v1 import Membership
from rappen_contracts.registry import DIRECTORY_CHANGED_V1
from rappen_contracts.stripe.v1 import StripeRequested
from services.chassis.caller import Caller
from services.subscriptions.lifecycle.periods import Period
from tests.integration.subscriptions.harness import (
    RETURN_URL,
    BillingsPlace,
    PaymentsPlace,
    TopicReader,
    changed,
    new_admin_of,
    publish,
)
from tests.support import callers
from tests.support.events import new_mandate
from tests.support.processes import FaultFolder, ServiceProcess
from tests.support.stack import ServerPair
from tests.support.stripe_facts import SubscriptionAtStripe
from tests.support.topics import read_in_group
from tests.support.waiting import eventually

NOW = datetime.now(UTC).replace(microsecond=0)
MONTH = Period(NOW - timedelta(days=10), NOW + timedelta(days=20))
KEY = {"Idempotency-Key": "one"}


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    with ServerPair(tmp_path_factory.mktemp("subscription-faults")).running(["subscriptions"]) as pair:
        yield pair


class World:
    """The service as one process that dies where it is told to, and its neighbours' places."""

    def __init__(self, servers: ServerPair, faults: FaultFolder, log: Path) -> None:
        self.servers = servers
        self.faults = faults
        self._kills = Counter[str]()
        settings = {
            "SUBSCRIPTIONS_FAULTS_FOLDER": str(faults.folder),
            "SUBSCRIPTIONS_RETURN_ORIGINS": '["https://app.test"]',
            "SUBSCRIPTIONS_KAFKA__SESSION_TIMEOUT_MS": "6000",
        }
        self.process = ServiceProcess(servers, "subscriptions", "all", log, more=settings)
        self.http = httpx.AsyncClient(base_url=self.process.url, trust_env=False, timeout=20)
        self.payments: PaymentsPlace
        self.billing: BillingsPlace
        self.producer: AIOKafkaProducer

    async def start(self, mandate_id: str, caller: Caller, plan_key: str = "TEAM") -> httpx.Response:
        headers = callers.headers(caller, audience="subscriptions", secret=self.servers.secret)
        body = {"planKey": plan_key, "returnUrl": RETURN_URL}
        return await self.http.post(f"/api/subscriptions/{mandate_id}", json=body, headers={**headers, **KEY})

    async def dies(self, point: str) -> None:
        """The fault was there, once more, and somebody started the process again."""
        self._kills[point] += 1
        await eventually(
            lambda: self.faults.hits(point) == self._kills[point] and not self.process.running,
            what=f"the kill at {point}",
        )
        self.process.start()
        await self.process.ready()

    async def subscribed(self) -> tuple[str, SubscriptionAtStripe]:
        """A mandate whose checkout is open, and the subscription that comes of it."""
        mandate_id = new_mandate()
        starting = asyncio.create_task(self.start(mandate_id, new_admin_of(mandate_id)))
        requested: StripeRequested = await self.payments.requests.next(mandate_id, 1)
        await self.payments.settle(requested)
        assert (await starting).status_code == 200
        return mandate_id, SubscriptionAtStripe(
            record=requested.subscription_id, mandate_id=mandate_id, period=MONTH, at=NOW
        )

    async def states(self, mandate_id: str, count: int) -> list[tuple[str, bool]]:
        """What was told, once there are so many, each event once."""
        events = await self.billing.events(mandate_id, count)
        told = {event.id: changed(event) for event in events}
        return [(data.to_state, data.budget_due) for data in told.values()]


@pytest_asyncio.fixture(scope="module")
async def world(own_servers: ServerPair, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    bootstrap_servers, folder = own_servers.kafka.bootstrap_servers, tmp_path_factory.mktemp("subscription-faults")
    async with AsyncExitStack() as stack:
        world = World(own_servers, FaultFolder(folder / "faults"), folder / "subscriptions.log")
        await stack.enter_async_context(world.process)
        await stack.enter_async_context(world.http)
        world.producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
        await stack.enter_async_context(world.producer)
        topics = (
            ("stripe.requested", "payments"),
            ("quantity.requested", "payments"),
            ("subscription.changed", "billing"),
        )
        readers = [
            await stack.enter_async_context(read_in_group(bootstrap_servers, topic, group)) for topic, group in topics
        ]
        world.payments = PaymentsPlace(TopicReader(readers[0]), TopicReader(readers[1]), world.producer)
        world.billing = BillingsPlace(readers[2])
        yield world


async def test_a_start_that_is_cut_off_is_asked_once_and_answered_by_its_repeat(world: World) -> None:
    for point, asked in (("subscriptions_checkout_uncommitted", False), ("subscriptions_checkout_committed", True)):
        mandate_id = new_mandate()
        admin = new_admin_of(mandate_id)
        world.faults.arm(point)
        with pytest.raises(httpx.TransportError):
            await world.start(mandate_id, admin)
        await world.dies(point)
        if asked:
            # It was asked before anybody came back for it.
            await world.payments.settle(await world.payments.requests.next(mandate_id, 1))
        else:
            assert world.payments.requests.of(mandate_id) == []
        repeat = asyncio.create_task(world.start(mandate_id, admin))
        requested: StripeRequested = await world.payments.requests.next(mandate_id, 1)
        if not asked:
            await world.payments.settle(requested)
        answer = await repeat
        assert answer.status_code == 200, answer.text
        assert answer.json()["redirectUrl"] == f"https://pay.test/{requested.request_id}"
        assert len({each.request_id for each in world.payments.requests.of(mandate_id)}) == 1
        assert await world.states(mandate_id, 1) == [("PENDING", False)]


@pytest.mark.parametrize("point", ["subscriptions_observed_uncommitted", "subscriptions_observed_committed"])
async def test_an_observation_that_is_cut_off_changes_and_credits_once(world: World, point: str) -> None:
    mandate_id, stripe = await world.subscribed()
    world.faults.arm(point)
    await world.payments.observe(stripe.begins())
    await world.dies(point)
    assert await world.states(mandate_id, 2) == [("PENDING", False), ("ACTIVE", True)]
    stripe.ends_at = MONTH.end
    await world.payments.observe(stripe.fetch())
    assert await world.states(mandate_id, 3) == [("PENDING", False), ("ACTIVE", True), ("CANCELED", False)]


@pytest.mark.parametrize("point", ["subscriptions_observed_uncommitted", "subscriptions_observed_committed"])
async def test_a_switch_that_is_cut_off_sets_the_old_plan_to_end_and_has_the_new_one_wait(
    world: World, point: str
) -> None:
    """Never the one without the other."""
    mandate_id, old = await world.subscribed()
    await world.payments.observe(old.begins())
    await world.states(mandate_id, 2)
    starting = asyncio.create_task(world.start(mandate_id, new_admin_of(mandate_id), "ENTERPRISE"))
    requested: StripeRequested = await world.payments.requests.next(mandate_id, 2)
    await world.payments.settle(requested)
    assert (await starting).status_code == 200
    new = SubscriptionAtStripe(
        record=requested.subscription_id,
        mandate_id=mandate_id,
        plan_key="ENTERPRISE",
        status="trialing",
        period=MONTH,
        trial_ends_at=MONTH.end,
        at=NOW,
    )
    world.faults.arm(point)
    await world.payments.observe(new.begins())
    await world.dies(point)
    assert (await world.states(mandate_id, 4))[2:] == [("PENDING", False), ("SCHEDULED", False)]
    ending = await world.payments.requests.next(mandate_id, 3)
    assert (ending.action, ending.subscription_id) == ("end_at_period_end", old.record)
    assert len({each.request_id for each in world.payments.requests.of(mandate_id)}) == 3


@pytest.mark.parametrize("point", ["subscriptions_due_uncommitted", "subscriptions_due_committed"])
async def test_an_end_by_the_clock_that_is_cut_off_is_told_and_asked_once(world: World, point: str) -> None:
    mandate_id, stripe = await world.subscribed()
    await world.payments.observe(stripe.begins())
    await world.states(mandate_id, 2)
    # Its grace is over in a moment.
    stripe.status, stripe.at = "past_due", datetime.now(UTC) - timedelta(days=7) + timedelta(seconds=8)
    world.faults.arm(point)
    await world.payments.observe(stripe.fetch())
    await world.dies(point)
    assert (await world.states(mandate_id, 4))[2:] == [("PAST_DUE", False), ("EXPIRED", False)]
    cancelled = await world.payments.requests.next(mandate_id, 2)
    assert (cancelled.action, cancelled.subscription_id) == ("cancel", stripe.record)
    assert len({each.request_id for each in world.payments.requests.of(mandate_id)}) == 2


@pytest.mark.parametrize("point", ["subscriptions_quantities_uncommitted", "subscriptions_quantities_committed"])
async def test_quantities_that_are_cut_off_are_asked_once(world: World, point: str) -> None:
    mandate_id, stripe = await world.subscribed()
    await world.payments.observe(stripe.begins())
    await world.states(mandate_id, 2)
    await asyncio.sleep(2)
    world.faults.arm(point)
    for version, user in enumerate(("a", "b"), start=1):
        entry = Membership(mandate_id=mandate_id, user_id=user, roles=["member"])
        data = DIRECTORY_CHANGED_V1.model(mandate_id=mandate_id, version=version, entry=entry, cause="test")
        await publish(world.producer, DIRECTORY_CHANGED_V1, data, key=mandate_id)
    await world.dies(point)

    def two_members() -> bool:
        asked = world.payments.quantities.of(mandate_id)
        return bool(asked) and asked[-1].quantities.members == 2

    await eventually(two_members, what="two members asked for")
    versions = {each.version: each.request_id for each in world.payments.quantities.of(mandate_id)}
    assert list(versions) == list(range(1, len(versions) + 1))
    assert len({each.request_id for each in world.payments.quantities.of(mandate_id)}) == len(versions) <= 2
