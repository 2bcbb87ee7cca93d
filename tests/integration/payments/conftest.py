"""The servers, the fake Stripe and the payments service, once for all tests of payments."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.integration.payments.world import World
from tests.support.stack import ServerPair
from tests.support.topics import read_in_group


@pytest.fixture(scope="package")
def payments_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    with ServerPair(tmp_path_factory.mktemp("servers")).running(["payments"]) as servers:
        yield servers


@pytest_asyncio.fixture(scope="package")
async def world(payments_servers: ServerPair, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    world = World(payments_servers, tmp_path_factory.mktemp("payments"))
    # Read in billing's place, so that confirm sees its readers catch up.
    reading = read_in_group(payments_servers.kafka.bootstrap_servers, "payment.succeeded", "billing")
    async with world.http, world.control, world.fake, world.service, reading as world.records:
        yield world
