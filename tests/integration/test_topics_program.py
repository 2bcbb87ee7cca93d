"""The program that makes the topics, as a composition of containers starts it: beside the broker, not after it."""

from __future__ import annotations

import asyncio
import os
import sys

from deploy.local.ports import free_port
from tests.support.stack import ROOT, ServerPair


async def test_it_waits_for_a_broker_that_is_still_starting(servers: ServerPair) -> None:
    host, _, port = servers.kafka.bootstrap_servers.rpartition(":")
    late = free_port()
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "deploy.local.topics",
        cwd=ROOT,
        env={**os.environ, "RAPPEN_KAFKA": f"127.0.0.1:{late}"},
        stderr=asyncio.subprocess.PIPE,
    )
    # Long enough for it to have found nobody there.
    await asyncio.sleep(5)
    assert program.returncode is None

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    async with await asyncio.start_server(pass_on, "127.0.0.1", late):
        _, told = await asyncio.wait_for(program.communicate(), timeout=90)
    assert (program.returncode, told) == (0, b"")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()
    writer.close()
