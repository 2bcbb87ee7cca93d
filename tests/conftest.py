"""One PostgreSQL and one Kafka for each process of a session; tests that need a clean state make their own mandates."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from xdist.scheduler import LoadScopeScheduling

from deploy.local.ports import PART
from tests.support.described import held_to_the_document
from tests.support.ledger import Books
from tests.support.processes import Process
from tests.support.stack import ServerPair

# Folders whose tests share what a single file of them should not start again.
KEPT_TOGETHER = ("tests/e2e/", "tests/integration/")


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps files in one process, and whole folders where their tests share servers of their own or a whole stack."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file.rpartition("/")[0] if file.startswith(KEPT_TOGETHER) else file


def pytest_configure(config: pytest.Config) -> None:
    """Has the code under test log plain tracebacks: with the locals of every frame one takes minutes to write. Each
    process of the session has ports of its own, and forks the programs that it starts."""
    Process.forking = True
    process = getattr(config, "workerinput", None)
    if process is not None:
        os.environ[PART] = f"{process['workerid'].removeprefix('gw')}/{process['workercount']}"
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FolderScheduling:
    """Gives files and folders to the processes of a session."""
    return FolderScheduling(config, log)


@pytest.fixture(scope="session")
def answers_that_do_not_fit() -> Iterator[list[str]]:
    """What is not as the OpenAPI document says, of all answers that any test gets."""
    with held_to_the_document() as faults:
        yield faults


@pytest.fixture(autouse=True)
def every_answer_is_as_the_document_says(answers_that_do_not_fit: list[str]) -> Iterator[None]:
    """Fails the test that got another one."""
    yield
    faults = "\n".join(dict.fromkeys(answers_that_do_not_fit))
    answers_that_do_not_fit.clear()
    assert not faults, faults


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    """The real servers, with roles, schemas, tables and topics."""
    with ServerPair(tmp_path_factory.mktemp("servers")).running(["billing"]) as pair:
        yield pair


@pytest.fixture
def bootstrap_servers(servers: ServerPair) -> str:
    """The address of Kafka."""
    return servers.kafka.bootstrap_servers


@pytest.fixture
def books(servers: ServerPair) -> Books:
    """Billing's books, looked at from outside."""
    return Books(servers.admin_dsn)
