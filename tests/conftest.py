"""One PostgreSQL and one Kafka for each process of a session; tests that need a clean state make their own mandates."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import ServerPair

TESTS = Path(__file__).parent


# Before the plugin that runs the processes looks at the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps a folder in one process: its tests share servers, and some of them stop these."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(str(item.path.parent.relative_to(TESTS))))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    """The real servers, with roles, schemas, tables and topics."""
    pair = ServerPair(tmp_path_factory.mktemp("servers"))
    pair.start(["billing"])
    yield pair
    pair.stop()
