"""One pair of servers, and the service upon them, for all tests of this folder.

The pair is this folder's own, because a test here reads in billing's consumer group, in billing's place.
"""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.integration.subscriptions.harness import BEGINNING, Service, running_service
from tests.support.stack import ServerPair


@pytest.fixture(scope="package")
def subscription_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    with ServerPair(tmp_path_factory.mktemp("subscriptions")).running(["subscriptions"]) as pair:
        yield pair


@pytest_asyncio.fixture(scope="package")
async def running(subscription_servers: ServerPair) -> AsyncIterator[Service]:
    async with running_service(subscription_servers) as service:
        yield service


@pytest.fixture
def service(running: Service) -> Service:
    """The service at the beginning of time, whatever the test before did to the clock."""
    running.clock.now = BEGINNING
    return running
