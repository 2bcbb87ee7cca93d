"""One process: parts (consumers, relay, jobs) beside a uvicorn server, crash-only, stopped without half-done work.

A part that ends by itself ends the process with a code: everything restarts from the database and Kafka.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

import uvicorn
from fastapi import FastAPI

from services.chassis.health import Health
from services.chassis.logging import get_logger
from services.chassis.settings import HttpSettings

__all__ = ["Part", "Resource", "pause", "run_process"]

# How long HTTP keeps serving after readiness went red, for callers that have not noticed yet.
DRAIN_S = 0.2
STOP_TIMEOUT_S = 35.0
GC_THRESHOLDS = (50_000, 20, 50)

_log = get_logger(__name__)


class Part(Protocol):
    """Something that runs until the process stops; ending earlier, or raising, ends the process."""

    name: str

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set, then finishes what it holds and returns."""
        ...


class Resource(Protocol):
    """Something that parts and routes need: started before all of them, stopped after all of them."""

    async def start(self) -> None:
        """Connects; raising ends the process, which its supervisor starts again."""
        ...

    async def stop(self) -> None:
        """Lets go."""
        ...


def run_process(
    app: FastAPI, *, http: HttpSettings, health: Health, resources: Sequence[Resource], parts: Sequence[Part]
) -> None:
    """Runs until SIGTERM or SIGINT, or until a part fails; exits with 1 for the latter."""
    # What start-up made stays; batches make and drop many small objects without cycles, for which the default of a
    # collection every 700 objects is pure cost.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=_loop) as runner:
        failed = runner.run(_run(app, http, health, resources, parts))
    sys.exit(1 if failed else 0)


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop  # noqa: PLC0415 - only the process that runs a loop needs it.

    return uvloop.new_event_loop()


async def _run(
    app: FastAPI, http: HttpSettings, health: Health, resources: Sequence[Resource], parts: Sequence[Part]
) -> bool:
    async with AsyncExitStack() as stack:
        for resource in resources:
            await resource.start()
            stack.push_async_callback(resource.stop)
        return await _serve(app, http, health, parts)


async def _serve(app: FastAPI, http: HttpSettings, health: Health, parts: Sequence[Part]) -> bool:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            # The parser in C; the default falls back to a slower one where it is missing.
            http="httptools",
            host=http.host,
            port=http.port,
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=10,
            server_header=False,
        )
    )
    serving = asyncio.create_task(_serve_http(server), name="http")
    working = [asyncio.create_task(part.run(stop), name=part.name) for part in parts]
    stopping = asyncio.create_task(stop.wait(), name="stop")
    _log.info("started", parts=[part.name for part in parts])
    done, _ = await asyncio.wait({serving, stopping, *working}, return_when=asyncio.FIRST_COMPLETED)
    failed = _report(done - {stopping}, expected=stop.is_set())
    health.draining = True
    await asyncio.sleep(DRAIN_S)
    stop.set()
    failed |= await _finish(working)
    server.should_exit = True
    failed |= await _finish([serving])
    _log.info("stopped", failed=failed)
    return failed


async def _serve_http(server: uvicorn.Server) -> None:
    # `_serve` of uvicorn does not touch the signal handlers that this process has set.
    await server._serve()  # noqa: SLF001


async def _finish(tasks: Sequence[asyncio.Task[Any]]) -> bool:
    """Waits for tasks that were told to stop; what does not end in time is cancelled and counts as failed."""
    pending = [task for task in tasks if not task.done()]
    if not pending:
        return False
    done, late = await asyncio.wait(pending, timeout=STOP_TIMEOUT_S)
    for task in late:
        _log.error("part did not stop", part=task.get_name())
        task.cancel()
    return _report(done, expected=True) or bool(late)


def _report(done: set[asyncio.Task[Any]], *, expected: bool) -> bool:
    failed = False
    for task in done:
        error = task.exception() if not task.cancelled() else None
        if error is not None:
            _log.error("part failed", part=task.get_name(), exc_info=error)
            failed = True
        elif not expected:
            _log.error("part ended", part=task.get_name())
            failed = True
    return failed


async def pause(stop: asyncio.Event, timeout_s: float) -> None:
    """Sleeps until the time is over or the process stops."""
    try:
        async with asyncio.timeout(timeout_s):
            await stop.wait()
    except TimeoutError:
        return
