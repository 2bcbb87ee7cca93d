"""One process: components (consumers, relay, jobs) beside uvicorn, crash-only, stopped without half-done work.

A component that ends by itself ends the process with a code: everything restarts from the database and Kafka.
"""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import uvicorn
from starlette.types import ASGIApp

from services.chassis.health import Health
from services.chassis.http_protocol import WholeAnswers
from services.chassis.logging import get_logger
from services.chassis.settings import HttpSettings

__all__ = ["Component", "Resource", "Site", "pause", "pause_unless", "run_process", "unless_stopped"]

# How long HTTP keeps serving after readiness went red, for callers that have not noticed yet.
DRAIN_S = 0.2
STOP_TIMEOUT_S = 35.0
# How many young objects are looked at in one go; every answer waits meanwhile, a few milliseconds for so many. Building
# a statement of a list leaves thousands that refer to each other.
GC_THRESHOLDS = (5_000, 20, 50)
# More than a batch of usage has, which hardly makes any of that kind: none is looked at while it is charged.
GC_THRESHOLDS_OF_BATCHES = (100_000, 20, 50)

_log = get_logger(__name__)


class Component(Protocol):
    """Something that runs until the process stops; ending earlier, or raising, ends the process."""

    name: str

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set, then finishes what it holds and returns."""
        ...


class Resource(Protocol):
    """Something that components and routes need: started before all of them, stopped after all of them."""

    async def start(self) -> None:
        """Connects; raising ends the process, which its supervisor starts again."""
        ...

    async def stop(self) -> None:
        """Releases what `start` acquired."""
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """An application and where it is served."""

    app: ASGIApp
    http: HttpSettings
    # Upon the parser in C; uvicorn's own default falls back to a slower one where it is missing.
    protocol: type[WholeAnswers] = WholeAnswers


def run_process(
    app: ASGIApp,
    *,
    http: HttpSettings,
    health: Health,
    resources: Sequence[Resource],
    components: Sequence[Component],
    public: Site | None = None,
    large_batches: bool = False,
) -> None:
    """Runs until SIGTERM or SIGINT, or until a component fails; exits with 1 for the latter.

    `app` is served on the internal port, which every process has; `public` beside it, on a port of its own.
    `large_batches` says that the process settles batches of thousands of records, which counts more than how long one
    of its answers may be held up.
    """
    # What start-up made stays. The default, a collection every 700 objects, is pure cost for both.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*(GC_THRESHOLDS_OF_BATCHES if large_batches else GC_THRESHOLDS))
    gc.enable()
    with asyncio.Runner(loop_factory=_loop) as runner:
        failed = runner.run(_run(Site(app, http), public, health, resources, components))
    sys.exit(1 if failed else 0)


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop  # noqa: PLC0415 - only the process that runs a loop needs it.

    return uvloop.new_event_loop()


async def _run(
    internal: Site, public: Site | None, health: Health, resources: Sequence[Resource], components: Sequence[Component]
) -> bool:
    async with AsyncExitStack() as stack:
        for resource in resources:
            await resource.start()
            stack.push_async_callback(resource.stop)
        return await _serve(internal, public, health, components)


async def _serve(internal: Site, public: Site | None, health: Health, components: Sequence[Component]) -> bool:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listeners = [_Listener("http", internal)]
    if public is not None:
        listeners.append(_Listener("public http", public))
        # Readiness is served on the internal port, whose answering says nothing of this one.
        health.register("public http", listeners[-1].listening)
    working = [asyncio.create_task(component.run(stop), name=component.name) for component in components]
    stopping = asyncio.create_task(stop.wait(), name="stop")
    _log.info("started", components=[component.name for component in components])
    done, _ = await asyncio.wait(
        {stopping, *working, *(listener.task for listener in listeners)}, return_when=asyncio.FIRST_COMPLETED
    )
    failed = _report(done - {stopping}, expected=stop.is_set())
    health.draining = True
    await asyncio.sleep(DRAIN_S)
    stop.set()
    failed |= await _finish(working)
    # Readiness is still served while the last callers of the public port are being answered.
    for listener in reversed(listeners):
        failed |= await listener.stop()
    _log.info("stopped", failed=failed)
    return failed


class _Listener:
    """A uvicorn server as a task of this process; made in the running loop, where it begins at once."""

    def __init__(self, name: str, site: Site) -> None:
        self._server = uvicorn.Server(
            uvicorn.Config(
                site.app,
                http=site.protocol,
                host=site.http.host,
                port=site.http.port,
                log_config=None,
                access_log=False,
                lifespan="on",
                timeout_keep_alive=75,
                timeout_graceful_shutdown=10,
                server_header=False,
                # Nothing here depends on the address of a client, which such headers claim.
                proxy_headers=False,
            )
        )
        sockets = [_shared_socket(site.http)] if site.http.shared else None
        # `_serve` of uvicorn does not touch the signal handlers that this process has set.
        self.task = asyncio.create_task(self._server._serve(sockets), name=name)  # noqa: SLF001

    async def listening(self) -> bool:
        """Whether it takes connections."""
        return self._server.started

    async def stop(self) -> bool:
        """Takes no more connections, answers the requests it has, and says whether it failed."""
        self._server.should_exit = True
        return await _finish([self.task])


def _shared_socket(http: HttpSettings) -> socket.socket:
    """A socket on a port on which other processes may have theirs."""
    family, kind, protocol, _, address = socket.getaddrinfo(http.host, http.port, type=socket.SOCK_STREAM)[0]
    shared = socket.socket(family, kind, protocol)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind(address)
    return shared


async def _finish(tasks: Sequence[asyncio.Task[Any]]) -> bool:
    """Waits for tasks that were told to stop; what does not end in time is cancelled and counts as failed."""
    pending = [task for task in tasks if not task.done()]
    if not pending:
        return False
    done, late = await asyncio.wait(pending, timeout=STOP_TIMEOUT_S)
    for task in late:
        _log.error("component did not stop", component=task.get_name())
        task.cancel()
    return _report(done, expected=True) or bool(late)


def _report(done: set[asyncio.Task[Any]], *, expected: bool) -> bool:
    failed = False
    for task in done:
        error = task.exception() if not task.cancelled() else None
        if error is not None:
            _log.error("component failed", component=task.get_name(), exc_info=error)
            failed = True
        elif not expected:
            _log.error("component ended", component=task.get_name())
            failed = True
    return failed


async def pause(stop: asyncio.Event, timeout_s: float) -> None:
    """Sleeps until the time is over or the process stops."""
    try:
        async with asyncio.timeout(timeout_s):
            await stop.wait()
    except TimeoutError:
        return


async def pause_unless(woken: asyncio.Event, stop: asyncio.Event, timeout_s: float) -> None:
    """As `pause`, and ends as soon as `woken` is set too."""
    waiting = [asyncio.ensure_future(each.wait()) for each in (woken, stop)]
    try:
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Does work that may wait without an end for a server that is away; gives it up when the process stops. Says
    whether it was done."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        # What was given up has ended before anything that it uses is closed.
        if given_up := doing.cancel():
            await asyncio.wait((doing,))
    if given_up:
        if not doing.cancelled() and (error := doing.exception()) is not None:
            _log.warning("given up", error=type(error).__name__)
        return False
    doing.result()
    return True
