"""One real PostgreSQL and one real Kafka for a test session, and services as real processes upon them.

They are those of the local stack; with `RAPPEN_TEST_STACK=containers` those of `compose.yaml`, in containers.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from deploy.local.kafka import LocalKafka
from deploy.local.postgres import LocalPostgres
from deploy.local.server import LocalServer
from deploy.local.topics import ensure_topics
from deploy.postgres.bootstrap import RolePasswords, bootstrap, database_dsn
from rappen_contracts.registry import TOPICS
from services.chassis.migrations import migrate

if TYPE_CHECKING:
    from tests.support.containers import ContainerKafka, ContainerPostgres

__all__ = ["ROOT", "SERVICES", "ServerPair", "make_postgres"]

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("gateway", "billing", "payments", "subscriptions")
# Tests that share a database record in it by clocks of their own, also in the past, so no worker closes its days.
SEALED_NEVER_S = str(10**9)
# What RAPPEN_TEST_STACK may say.
STACKS = ("local", "containers")


def make_postgres(folder: Path, *, disposable: bool = True) -> LocalPostgres | ContainerPostgres:
    """A PostgreSQL of its own, which as a context is started and stopped; no test cuts the power of the machine."""
    if not _in_containers():
        return LocalPostgres(folder, disposable=disposable)
    from tests.support.containers import ContainerPostgres

    return ContainerPostgres()


def _make_kafka(folder: Path) -> LocalKafka | ContainerKafka:
    if not _in_containers():
        return LocalKafka(folder)
    from tests.support.containers import ContainerKafka

    return ContainerKafka()


@cache
def _formatted() -> Path:
    """The folder of a Kafka that was never started, to be copied: to format one costs a second of CPU."""
    kafka = LocalKafka(Path(tempfile.mkdtemp(prefix="rappen-kafka-")))
    kafka.prepare()
    atexit.register(shutil.rmtree, kafka.folder)
    return kafka.folder


def _in_containers() -> bool:
    stack = os.environ.get("RAPPEN_TEST_STACK", STACKS[0])
    assert stack in STACKS, f"RAPPEN_TEST_STACK is {' or '.join(STACKS)}, not {stack}"
    return stack == "containers"


class ServerPair:
    """The two servers with databases, roles, schemas and topics ready, shared by every test of a session."""

    def __init__(self, folder: Path, *, disposable: bool = True) -> None:
        self.postgres = make_postgres(folder / "postgres", disposable=disposable)
        self.kafka = _make_kafka(folder / "kafka")
        self._passwords = {name: RolePasswords(secrets.token_hex(8), secrets.token_hex(8)) for name in SERVICES}
        self.secret = secrets.token_hex(32)

    def start(self, services: Sequence[str] = SERVICES) -> None:
        """Starts both side by side, makes roles and topics, migrates the services that the tests need."""
        with ThreadPoolExecutor(max_workers=2) as starters:
            starting = [starters.submit(self._start_postgres, services), starters.submit(self._start_kafka)]
        for started in starting:
            started.result()

    def _start_postgres(self, services: Sequence[str]) -> None:
        self.postgres.start()
        asyncio.run(bootstrap(self.postgres.admin_dsn, self._passwords))
        for service in services:
            self.migrate(service)

    def _start_kafka(self) -> None:
        if isinstance(self.kafka, LocalKafka):
            shutil.copytree(_formatted(), self.kafka.folder, dirs_exist_ok=True)
        self.kafka.start()
        asyncio.run(ensure_topics(self.kafka.bootstrap_servers, TOPICS))

    def stop(self) -> None:
        """Ends both at once: nobody reads their data again."""
        self.kafka.kill()
        self.postgres.stop(mode="immediate")
        for server in (self.kafka, self.postgres):
            if not isinstance(server, LocalServer):
                server.discard()

    @contextmanager
    def running(self, services: Sequence[str] = SERVICES) -> Iterator[Self]:
        """The servers started with the schemas of these services, and ended after the block however it ends."""
        try:
            self.start(services)
            yield self
        finally:
            self.stop()

    def migrate(self, service: str) -> None:
        """Brings a schema to its newest revision: here, because a process of its own takes three times as long."""
        migrate(self.dsn(service, owner=True), schema=service, folder=ROOT / "services" / service / "migrations")

    def dsn(self, service: str, *, owner: bool = False) -> str:
        """The address of the database for a service's role."""
        role = f"{service}_owner" if owner else f"{service}_app"
        return database_dsn(self.postgres.admin_dsn, role, self.password(service, owner=owner))

    def password(self, service: str, *, owner: bool = False) -> str:
        """The password of a service's role."""
        return self._passwords[service].owner if owner else self._passwords[service].app

    def environment(self, service: str, *, port: int, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a service process; the gateway's internal port is set by whoever starts it."""
        prefix = service.upper()
        internal = {"GATEWAY_INTERNAL_HTTP__PORT": "1"} if service == "gateway" else {}
        return {
            **os.environ,
            f"{prefix}_ENVIRONMENT": "development",
            f"{prefix}_DATABASE_URL": self.dsn(service),
            f"{prefix}_DATABASE_OWNER_URL": self.dsn(service, owner=True),
            f"{prefix}_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            f"{prefix}_HTTP__PORT": str(port),
            f"{prefix}_INTERNAL_SECRET": self.secret,
            **internal,
            **({"BILLING_SEAL_AFTER_S": SEALED_NEVER_S} if service == "billing" else {}),
            **(more or {}),
        }

    @property
    def admin_dsn(self) -> str:
        """The database as its administrator sees it."""
        parts = self.postgres.admin_dsn.rpartition("/")
        return f"{parts[0]}/rappen"
