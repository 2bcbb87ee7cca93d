"""One billing worker, and the books it keeps."""

from collections.abc import AsyncIterator

import pytest

from services.chassis.database import Database
from tests.support.processes import SHORT_SESSION, ServiceProcess
from tests.support.stack import ServerPair


@pytest.fixture(scope="module")
async def worker(servers: ServerPair, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceProcess]:
    log = tmp_path_factory.mktemp("log") / "worker.log"
    async with ServiceProcess(servers, "billing", "worker", log, more=SHORT_SESSION) as process:
        yield process


@pytest.fixture
async def database(servers: ServerPair) -> AsyncIterator[Database]:
    opened = Database(servers.dsn("billing"))
    await opened.start()
    yield opened
    await opened.stop()
