"""One PostgreSQL and one Kafka for the whole session; each test that needs a clean state makes its own mandates."""

from collections.abc import Iterator

import pytest

from tests.support.stack import ServerPair


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    """The real servers, with roles, schemas, tables and topics."""
    pair = ServerPair(tmp_path_factory.mktemp("servers"))
    pair.start(["billing"])
    yield pair
    pair.stop()
