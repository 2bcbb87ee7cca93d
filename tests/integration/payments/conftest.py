"""The servers, the fake Stripe and the payments service, once for all tests of payments."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.integration.payments.world import World
from tests.support.stack import ServerPair
from tests.support.topics import read_in_group

OTHER_TOPICS = ("payment.failed", "payment.refunded", "stripe.settled", "stripe.observed", "quantity.settled")


@pytest.fixture(scope="package")
def payments_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    with ServerPair(tmp_path_factory.mktemp("servers")).running(["payments"]) as servers:
        yield servers


@pytest_asyncio.fixture(scope="package")
async def world(payments_servers: ServerPair, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    world = World(payments_servers, tmp_path_factory.mktemp("payments"))
    # Read in billing's place, so that confirm sees its readers catch up.
    servers = payments_servers.kafka.bootstrap_servers
    async with AsyncExitStack() as stack:
        world.records = await stack.enter_async_context(read_in_group(servers, "payment.succeeded", "billing"))
        world.others = {
            topic: await stack.enter_async_context(read_in_group(servers, topic, f"tests-{topic}"))
            for topic in OTHER_TOPICS
        }
        for each in (world.http, world.control, world.fake, world.service):
            await stack.enter_async_context(each)
        yield world
