"""Programs of ours as real processes that need not import again what another process of the same program imported.

`python -m tests.support.fork_server <module>` imports what the program imports, and forks a process whenever it is
asked for one: with its own pid, environment, streams, signals and exit code, it runs the module's `__main__` as
`python -m <module>` does. What is saved are one or two seconds of CPU a start. Requests are lines of JSON on its
standard input, each is answered by a line; it ends when nobody is there any more who could ask.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["ForkedProcess", "can_be_forked", "fork"]

ROOT = Path(__file__).resolve().parents[2]
# What is imported for every process of a program.
IMPORTED = {
    **{
        f"services.{name}": (f"services.{name}.__main__", f"services.{name}.app")
        for name in ("billing", "gateway", "payments", "subscriptions")
    },
    "deploy.fakestripe": ("deploy.fakestripe.__main__",),
}
# Variables that count when a program is loaded, before it could be told them.
COUNT_WHEN_LOADED = ("PYTHON", "LD_", "MALLOC_", "LANG", "LC_", "TZ")
POLL_S = 0.01


def can_be_forked(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> bool:
    """Whether the command is `python -m` of such a program, in this environment as it is in ours."""
    ours = (sys.executable, "-m")
    return (
        tuple(command[:2]) == ours
        and command[2] in IMPORTED
        and cwd == ROOT
        and all(
            environment.get(name) == os.environ.get(name)
            for name in {*environment, *os.environ}
            if name.startswith(COUNT_WHEN_LOADED)
        )
    )


def fork(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: Path | None = None,
    stdout: Path | None = None,
    stderr: Path | None = None,
) -> ForkedProcess:
    """Starts a command that can be forked; what is written to files is appended, without one it goes where the tests'
    own output goes."""
    _, _, module, *arguments = command
    streams = [None if file is None else str(file) for file in (stdin, stdout, stderr)]
    server = _server(module)
    pid = server.ask({"arguments": arguments, "environment": dict(environment), "streams": streams})
    return ForkedProcess(server, command, pid)


class ForkedProcess:
    """A process that was forked, with what the tests use of `subprocess.Popen`."""

    def __init__(self, server: _Server, command: Sequence[str], pid: int) -> None:
        self.pid = pid
        self._server = server
        self._command = command
        self._exit_code: int | None = None

    def poll(self) -> int | None:
        """The exit code, which is negative for a signal; None while it runs."""
        if self._exit_code is None:
            self._exit_code = self._server.ask({"ended": self.pid})
        return self._exit_code

    def wait(self, timeout: float) -> int:
        """Waits for the end."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self._command, timeout)
            time.sleep(POLL_S)
        return code

    def terminate(self) -> None:
        """SIGTERM."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # No other process gets its pid before its end was asked for.
        if self.poll() is None:
            os.kill(self.pid, number)


class _Server:
    """The server of a program, on the side of the tests."""

    def __init__(self, module: str) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, module], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        atexit.register(self._process.communicate)

    def ask(self, request: dict[str, Any]) -> Any:
        """The answer to a request."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        with self._lock:
            requests.write(json.dumps(request).encode() + b"\n")
            requests.flush()
            return json.loads(answers.readline())


@cache
def _server(module: str) -> _Server:
    return _Server(module)


def _main(module: str) -> None:
    gc.disable()
    for each in IMPORTED[module]:
        import_module(each)
    gc.freeze()
    gc.enable()
    # There would be no other thread in what is forked.
    assert threading.active_count() == 1
    # Ctrl-C in a terminal reaches the processes too, and the tests want to see them end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = _answer_requests()
    if asked is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _run(module, asked)


def _answer_requests() -> dict[str, Any] | None:
    """Returns what it was asked for in a process that was forked; in the server None, when nobody asks any more."""
    with ExitStack() as ends:
        requests = ends.enter_context(os.fdopen(os.dup(0), "rb"))
        answers = ends.enter_context(os.fdopen(os.dup(1), "wb", buffering=0))
        nothing = ends.enter_context(open(os.devnull, "rb"))
        os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        for line in requests:
            request: dict[str, Any] = json.loads(line)
            answer = _exit_code(request["ended"]) if "ended" in request else os.fork()
            if answer == 0 and "ended" not in request:
                return request
            answers.write(json.dumps(answer).encode() + b"\n")
    return None


def _exit_code(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _run(module: str, asked: dict[str, Any]) -> None:
    flags = (os.O_RDONLY, os.O_WRONLY | os.O_APPEND | os.O_CREAT, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream, (file, how) in enumerate(zip(asked["streams"], flags, strict=True)):
        if file is not None:
            opened = os.open(file, how, 0o644)
            os.dup2(opened, stream)
            os.close(opened)
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = [module, *asked["arguments"]]
    # It is run, not imported.
    sys.modules.pop(f"{module}.__main__", None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(sys.argv[1])
