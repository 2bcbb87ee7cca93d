"""One store for all tests of this folder, upon servers of its own, because a test reads in the place of payments."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.integration.store.harness import Shop, open_shop
from tests.support.stack import ServerPair


@pytest.fixture(scope="package")
def store_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    with ServerPair(tmp_path_factory.mktemp("store")).running(["subscriptions", "gateway"]) as pair:
        yield pair


@pytest_asyncio.fixture(scope="package")
async def shop(store_servers: ServerPair, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with open_shop(store_servers, tmp_path_factory.mktemp("shop")) as running:
        yield running
