"""The table of `rappen status`: what each process is doing now."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError
from rich.markup import escape
from rich.table import Table

from deploy.local.health import readiness

_LAG_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Row:
    """One process."""

    name: str
    role: str
    port: int
    pid: int | None
    ready: bool
    restarts: int
    # Records that wait in the partitions this process reads; None if it reads none, or the broker does not say.
    lag: int | None
    # What a process that is not ready says of it.
    why: str = ""


async def look(stack: Mapping[str, Any]) -> list[Row]:
    """Ask every process whether it is ready, and the broker how far behind each is."""
    processes: list[dict[str, Any]] = stack["processes"]
    async with httpx.AsyncClient(trust_env=False) as client:
        lags, ready = await asyncio.gather(
            _lags_or_none(stack["kafka"], [process["name"] for process in processes]),
            asyncio.gather(*(readiness(client, process["health"]) for process in processes)),
        )
    return [
        Row(
            name=process["name"],
            role=process["role"],
            port=process["port"],
            pid=process["pid"],
            ready=is_ready,
            restarts=process["restarts"],
            lag=lags.get(process["name"]),
            why=why,
        )
        for process, (is_ready, why) in zip(processes, ready, strict=True)
    ]


def table(rows: list[Row]) -> Table:
    """Give the rows as a table for the terminal."""
    made = Table(box=None, pad_edge=False)
    made.add_column("process")
    made.add_column("role")
    for heading in ("port", "pid"):
        made.add_column(heading, justify="right")
    made.add_column("ready")
    for heading in ("restarts", "lag"):
        made.add_column(heading, justify="right")
    made.add_column("why")
    for row in rows:
        made.add_row(
            row.name,
            row.role,
            str(row.port),
            str(row.pid or "-"),
            "[green]yes[/]" if row.ready else "[red]no[/]",
            str(row.restarts),
            "-" if row.lag is None else str(row.lag),
            escape(row.why),
        )
    return made


async def _lags_or_none(bootstrap: str, names: list[str]) -> dict[str, int]:
    """Give the lag by process; empty when the broker does not answer, which the table shows as not ready anyway."""
    try:
        async with asyncio.timeout(_LAG_TIMEOUT_S):
            return await _lags(bootstrap, names)
    except (KafkaError, OSError):
        return {}


async def _lags(bootstrap: str, names: list[str]) -> dict[str, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    try:
        await admin.start()
        await consumer.start()
        lags: dict[str, int] = {}
        groups = [group for group, protocol in await admin.list_consumer_groups() if protocol == "consumer"]
        for group, partitions_by_name in (await _assignments(admin, groups, names)).items():
            committed = await admin.list_consumer_group_offsets(group)
            for name, partitions in partitions_by_name.items():
                lags[name] = lags.get(name, 0) + await _behind(consumer, partitions, committed)
        return lags
    finally:
        await admin.close()
        await consumer.stop()


async def _assignments(
    admin: AIOKafkaAdminClient, groups: list[str], names: list[str]
) -> dict[str, dict[str, list[TopicPartition]]]:
    """Give by group and process which partitions it reads; a client belongs to the process that its id names."""
    found: dict[str, dict[str, list[TopicPartition]]] = {}
    for group in groups:
        # One at a time: the client cannot read an answer about several.
        (response,) = await admin.describe_consumer_groups([group])
        (described,) = response.to_object()["groups"]
        for member in described["members"]:
            name = _process_of(member["client_id"], names)
            if name is None or not member["member_assignment"]:
                continue
            assignment = ConsumerProtocolMemberAssignment.decode(member["member_assignment"])
            found.setdefault(group, {}).setdefault(name, []).extend(assignment.partitions())
    return found


async def _behind(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], committed: Mapping[TopicPartition, Any]
) -> int:
    # This client reads uncommitted, so that what an open transaction holds up counts as waiting.
    ends = await consumer.end_offsets(partitions)
    # Where nothing was committed yet, reading begins at the first record that is still there.
    begins = await consumer.beginning_offsets(partitions)
    positions = {partition: offset.offset for partition, offset in committed.items() if offset.offset >= 0}
    return sum(max(0, ends[partition] - positions.get(partition, begins[partition])) for partition in partitions)


def _process_of(client_id: str, names: list[str]) -> str | None:
    """Find the process whose name is part of a client id; the longest, as `payments` may also name a topic."""
    matching = [name for name in names if re.search(rf"(^|[-.]){re.escape(name)}($|[-.])", client_id)]
    return max(matching, key=len, default=None)
