"""The servers, the fake Stripe and the payments service, once for all tests of payments."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest
import pytest_asyncio

from tests.integration.payments.world import World
from tests.support.stack import ServerPair


@pytest.fixture(scope="package")
def payments_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    servers = ServerPair(tmp_path_factory.mktemp("servers"))
    with ExitStack() as stack:
        stack.callback(servers.stop)
        servers.start(["payments"])
        world = World(servers, tmp_path_factory.mktemp("payments"))
        for process in (world.fake, world.service):
            stack.callback(process.end)
            process.start()
        yield world


@pytest_asyncio.fixture(scope="package")
async def world(payments_processes: World) -> AsyncIterator[World]:
    stop = asyncio.Event()
    reading = asyncio.create_task(payments_processes.read_topic(stop))
    yield payments_processes
    stop.set()
    await reading
    await payments_processes.http.aclose()
    await payments_processes.control.aclose()
