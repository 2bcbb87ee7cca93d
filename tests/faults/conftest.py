"""The books, a folder of placed faults, and a crew of workers that dies there and is started again."""

from pathlib import Path

import pytest

from tests.support.processes import Crew, FaultFolder
from tests.support.stack import ServerPair


@pytest.fixture
def faults(tmp_path: Path) -> FaultFolder:
    return FaultFolder(tmp_path / "faults")


@pytest.fixture
def crew(servers: ServerPair, faults: FaultFolder, tmp_path: Path) -> Crew:
    return Crew(servers, tmp_path, more=faults.settings)
