"""One server process in a folder of its own, which outlives none of its users."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from deploy.local.errors import StackError
from deploy.local.ports import LOOPBACK, free_port

_POLL_S = 0.1
_LOG_TAIL_LINES = 15


class LocalServer(ABC):
    """A server that is started, stopped, killed and started again on the same port and the same data.

    Its methods block, so that they serve tests with and without an event loop; as an asynchronous context it starts and
    stops in a thread. The supervisor uses only `prepare`, `command` and `ready` and keeps the process itself.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, folder: Path, *, port: int | None = None, log: Path | None = None) -> None:
        self.folder = folder.resolve()
        self.host = LOOPBACK
        self.port = port or free_port()
        self.log = log or self.folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Make the data folder if it is not there, and write the settings; harmless to repeat."""

    @abstractmethod
    def command(self) -> list[str]:
        """Give the command line of the process, which stays in the foreground."""

    @abstractmethod
    async def ready(self) -> bool:
        """Say whether a real client gets a real answer now."""

    @property
    def pid(self) -> int:
        """The process id; raises StackError while the server is not running."""
        if self._process is None or self._process.poll() is not None:
            raise StackError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = 60) -> None:
        """Start the server and return when it answers a client."""
        if self.running:
            return
        self.prepare()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + timeout_s
        while True:
            self._spawn()
            if self._wait_until_it_answers(deadline):
                return
            # A server killed a moment ago may leave children that hold its data for a few more milliseconds.
            if time.monotonic() > deadline or self.running:
                self.kill()
                raise StackError(f"{self.name} did not start within {timeout_s:.0f} s:\n{tail(self.log)}")
            time.sleep(_POLL_S * 3)

    def stop(self, timeout_s: float = 30) -> None:
        """Stop the server in good order; one that will not stop within `timeout_s` is killed."""
        self._end(self.stop_signal, timeout_s)

    def kill(self) -> None:
        """End the process as a power cut would (SIGKILL): it gets no chance to write anything."""
        self._end(signal.SIGKILL, timeout_s=10)

    def restart(self) -> None:
        """Stop the server if it runs, and start it on the same port and data."""
        self.stop()
        self.start()

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                # Ctrl-C in a terminal reaches a whole process group; the owner of this server stops it in its order.
                start_new_session=True,
            )

    def _wait_until_it_answers(self, deadline: float) -> bool:
        # In a thread of its own, because the caller's may have an event loop running.
        with ThreadPoolExecutor(max_workers=1) as prober:
            while self.running and time.monotonic() < deadline:
                if prober.submit(asyncio.run, self.ready()).result():
                    return True
                time.sleep(_POLL_S)
        return False

    def _end(self, how: signal.Signals, timeout_s: float) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            os.kill(self._process.pid, how)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)


def tail(log: Path, lines: int = _LOG_TAIL_LINES) -> str:
    """Give the last lines of a log file, or say that there is none."""
    if not log.exists():
        return f"({log} was never written)"
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 64 * 1024))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:]) or f"({log} is empty)"
