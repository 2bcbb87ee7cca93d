"""PostgreSQL and Kafka in containers of an engine on this machine, from the images and settings of `compose.yaml`."""

from __future__ import annotations

import asyncio
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import yaml
from testcontainers.core.container import DockerContainer

from deploy.local.kafka import kafka_answers
from deploy.local.ports import LOOPBACK, free_port
from deploy.local.postgres import StopMode, postgres_answers
from tests.support.stack import ROOT

__all__ = ["ContainerKafka", "ContainerPostgres"]

STOP_SIGNALS: dict[StopMode, str] = {"smart": "SIGTERM", "fast": "SIGINT", "immediate": "SIGQUIT"}
# An image may have to be fetched first, outside of this time.
START_TIMEOUT_S = 90.0


def composed(service: str) -> dict[str, Any]:
    """A service as `compose.yaml` describes it."""
    described: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"][service]
    return described


class ContainerServer(ABC):
    """A server that is started, stopped, killed and started again on the same port and the same data."""

    def __init__(self, service: str, *, port_inside: int, environment: Mapping[str, str]) -> None:
        described = composed(service)
        self.port = free_port()
        self._name = service
        self._created = False
        self._container = DockerContainer(described["image"], command=described.get("command"))
        given = {name: str(value) for name, value in described["environment"].items()}
        self._container.with_envs(**{**given, **environment})
        # Nobody but the tests of this machine is to reach them.
        self._container.ports[f"{port_inside}/tcp"] = (LOOPBACK, self.port)

    @abstractmethod
    async def ready(self) -> bool:
        """Say whether a real client gets a real answer now."""

    @property
    def pid(self) -> int:
        """The process id, as this machine counts."""
        container = self._container.get_wrapped_container()
        container.reload()
        return int(container.attrs["State"]["Pid"])

    def start(self) -> None:
        """Starts the server and returns when it answers a client."""
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True
        deadline = time.monotonic() + START_TIMEOUT_S
        # In a thread of its own, because the caller's may have an event loop running.
        with ThreadPoolExecutor(max_workers=1) as prober:
            while not prober.submit(asyncio.run, self.ready()).result():
                if time.monotonic() > deadline:
                    raise AssertionError(f"{self._name} did not start:\n{self._log()}")
                time.sleep(0.1)

    def kill(self) -> None:
        """Ends the process as a power cut would; the data stays."""
        self._end("SIGKILL")

    def discard(self) -> None:
        """Removes the container and its data."""
        self._container.stop()

    def _end(self, how: str) -> None:
        if not self._created:
            return
        container = self._container.get_wrapped_container()
        container.kill(how)
        container.wait(timeout=60)

    def _log(self) -> str:
        return str(self._container.get_wrapped_container().logs(tail=30).decode(errors="replace"))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


class ContainerPostgres(ContainerServer):
    """The PostgreSQL of `compose.yaml`, with a password of its own."""

    def __init__(self) -> None:
        self.password = secrets.token_hex(16)
        super().__init__("postgres", port_inside=5432, environment={"POSTGRES_PASSWORD": self.password})

    @property
    def admin_dsn(self) -> str:
        """The superuser's DSN, of the maintenance database."""
        return f"postgresql://postgres:{self.password}@{LOOPBACK}:{self.port}/postgres"

    async def ready(self) -> bool:
        return await postgres_answers(self.admin_dsn)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stops the server: `immediate` skips the last checkpoint, the next start replays the log as after a crash."""
        self._end(STOP_SIGNALS[mode])


class ContainerKafka(ContainerServer):
    """The Kafka of `compose.yaml`, by its listener for clients on this machine."""

    def __init__(self) -> None:
        super().__init__("kafka", port_inside=9094, environment={})
        advertised = f"PLAINTEXT://localhost:9092,HOST://{self.bootstrap_servers}"
        self._container.with_env("KAFKA_ADVERTISED_LISTENERS", advertised)

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients, host:port."""
        return f"{LOOPBACK}:{self.port}"

    async def ready(self) -> bool:
        return await kafka_answers(self.bootstrap_servers)

    def stop(self) -> None:
        """Stops the broker in good order."""
        self._end("SIGTERM")
