"""Usage on Kafka becomes charges: the plain path, through a real worker process."""

from collections.abc import AsyncIterator

import pytest

from tests.support.events import new_mandate, publish, usage_record, uuid7
from tests.support.ledger import Books, eventually
from tests.support.processes import ServiceProcess
from tests.support.stack import ServerPair


@pytest.fixture(scope="module")
async def worker(servers: ServerPair, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceProcess]:
    process = ServiceProcess(servers, "billing", "worker", tmp_path_factory.mktemp("log") / "worker.log")
    process.start()
    await process.ready()
    yield process
    process.stop()


@pytest.fixture
def books(servers: ServerPair) -> Books:
    return Books(servers.admin_dsn)


async def test_an_event_is_charged_with_markup_to_the_pool(
    servers: ServerPair, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    await publish(servers.kafka.bootstrap_servers, [usage_record(mandate, amount="0.10")])
    await eventually(lambda: _charged(books, mandate, 1), what="the charge")
    assert await books.cost([mandate]) == 150_000
    assert await books.value(
        "SELECT balance FROM accounts a JOIN mandates m ON m.no = a.mandate_no WHERE m.id = $1 AND type = 'MANDATE'",
        mandate,
    ) == -150_000
    assert await books.failing() == {}


async def test_the_same_event_twice_is_charged_once(
    servers: ServerPair, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    record = usage_record(mandate, event_id=uuid7())
    await publish(servers.kafka.bootstrap_servers, [record, record])
    await publish(servers.kafka.bootstrap_servers, [record, usage_record(mandate)])
    await eventually(lambda: _charged(books, mandate, 2), what="both charges")
    assert await books.charged([mandate]) == 2


async def _charged(books: Books, mandate: str, count: int) -> bool:
    return await books.charged([mandate]) >= count

