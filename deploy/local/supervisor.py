"""Keeps processes running: starts them, starts again the one that dies, and stops all in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.errors import StackError
from deploy.local.processes import RecordedProcess
from deploy.local.server import tail

log = logging.getLogger(__name__)

_BACKOFF_FIRST_S = 0.2
_BACKOFF_LONGEST_S = 10.0
# A process that lived this long was well; its next death is a new story.
_WELL_AFTER_S = 30.0
# While a stack starts, one that keeps dying has a fault that waiting does not mend.
_DEATHS_BEFORE_GIVING_UP = 5
_LOG_BYTES_MAX = 50 * 1024 * 1024
_POLL_S = 0.1


@dataclass(frozen=True)
class ProcessSpec:
    """A process to keep. Higher tiers are stopped first."""

    name: str
    role: str
    port: int
    health: str
    command: Callable[[], list[str]]
    ready: Callable[[], Awaitable[bool]]
    cwd: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    # What has to be done before each start; it may block, and runs in a thread.
    prepare: Callable[[], None] = lambda: None
    tier: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 40.0


@dataclass
class Child:
    """A process that is kept, as it is now."""

    spec: ProcessSpec
    process: asyncio.subprocess.Process | None = None
    record: RecordedProcess | None = None
    restarts: int = 0
    failure: str = ""
    keeper: asyncio.Task[None] | None = None

    def describe(self) -> dict[str, Any]:
        """Give what stack.json says of a process; one that waits to be started again has no pid."""
        runs = self.process is not None and self.process.returncode is None
        return {
            "name": self.spec.name,
            "pid": self.process.pid if self.process is not None and runs else None,
            "log": str(self.spec.log),
            "health": self.spec.health,
            "role": self.spec.role,
            "port": self.spec.port,
            "restarts": self.restarts,
        }


class Supervisor:
    """Keeps the processes it is given; `on_change` is called whenever one has been started, or has died."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._children: dict[str, Child] = {}

    @property
    def children(self) -> list[Child]:
        """All processes, in the order they were first started."""
        return list(self._children.values())

    def keep(self, spec: ProcessSpec) -> None:
        """Start a process and keep it running until `stop`."""
        child = Child(spec)
        self._children[spec.name] = child
        child.keeper = asyncio.create_task(self._keep(child), name=f"keep {spec.name}")

    async def wait_ready(self, name: str) -> None:
        """Return when the process is ready; raises StackError when it keeps dying instead."""
        child = self._children[name]
        while True:
            if child.process is not None and child.process.returncode is None and await child.spec.ready():
                return
            if child.restarts >= _DEATHS_BEFORE_GIVING_UP:
                raise StackError(
                    f"{name} keeps ending ({child.failure}); the end of {child.spec.log}:\n{tail(child.spec.log)}"
                )
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """Stop every process, the highest tier first, each with its own signal and grace; then kill what is left."""
        for tier in sorted({child.spec.tier for child in self.children}, reverse=True):
            await asyncio.gather(*(self._end(child) for child in self.children if child.spec.tier == tier))

    async def _keep(self, child: Child) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while True:
            started = time.monotonic()
            try:
                await asyncio.to_thread(child.spec.prepare)
                process = await self._spawn(child)
                child.failure = f"exit code {await process.wait()}"
            except (StackError, OSError) as error:
                child.failure = str(error)
            if time.monotonic() - started >= _WELL_AFTER_S:
                backoff_s = _BACKOFF_FIRST_S
            child.restarts += 1
            log.warning("%s ended (%s), it is started again in %.1f s", child.spec.name, child.failure, backoff_s)
            self._on_change()
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _BACKOFF_LONGEST_S)

    async def _spawn(self, child: Child) -> asyncio.subprocess.Process:
        spec = child.spec
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        if spec.log.exists() and spec.log.stat().st_size > _LOG_BYTES_MAX:
            spec.log.replace(spec.log.with_suffix(".log.old"))
        with spec.log.open("ab") as output:
            child.process = await asyncio.create_subprocess_exec(
                *spec.command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=spec.cwd,
                env={**os.environ, **spec.environment},
                # Ctrl-C in a terminal reaches a whole process group, and would end all at once and out of order.
                start_new_session=True,
            )
        child.record = RecordedProcess.of(
            spec.name, child.process.pid, tier=spec.tier, stop_signal=spec.stop_signal, grace_s=spec.grace_s
        )
        self._on_change()
        return child.process

    async def _end(self, child: Child) -> None:
        # First its keeper, so that nothing is started any more.
        if child.keeper is not None:
            child.keeper.cancel()
            await asyncio.wait({child.keeper})
        process = child.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(child.spec.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), child.spec.grace_s)
        except TimeoutError:
            log.warning("%s did not stop within %.0f s and is killed", child.spec.name, child.spec.grace_s)
            process.kill()
            await process.wait()
