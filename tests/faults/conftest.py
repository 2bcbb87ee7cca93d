"""The books, a folder of placed faults, and a crew of workers that dies there and is started again."""

from pathlib import Path

import pytest

from tests.support.ledger import Books
from tests.support.processes import Crew, FaultFolder
from tests.support.stack import ServerPair


@pytest.fixture
def books(servers: ServerPair) -> Books:
    return Books(servers.admin_dsn)


@pytest.fixture
def bootstrap_servers(servers: ServerPair) -> str:
    return servers.kafka.bootstrap_servers


@pytest.fixture
def faults(tmp_path: Path) -> FaultFolder:
    return FaultFolder(tmp_path / "faults")


@pytest.fixture
def crew(servers: ServerPair, faults: FaultFolder, tmp_path: Path) -> Crew:
    return Crew(servers, tmp_path, more=faults.settings)
