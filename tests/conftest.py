"""One PostgreSQL and one Kafka for each process of a session; tests that need a clean state make their own mandates."""

from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.stack import ServerPair


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps a folder in one process: its tests share servers, and some of them stop these."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0].rpartition("/")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FolderScheduling:
    """Gives the folders to the processes of a session."""
    return FolderScheduling(config, log)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    """The real servers, with roles, schemas, tables and topics."""
    pair = ServerPair(tmp_path_factory.mktemp("servers"))
    pair.start(["billing"])
    yield pair
    pair.stop()
