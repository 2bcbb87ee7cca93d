"""Acting on a stack from outside its supervisor: is there one, what does it say, stop it."""

from __future__ import annotations

import fcntl
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import psutil

from deploy.local.errors import StackError
from deploy.local.home import Home, read_json
from deploy.local.processes import RecordedProcess, end_recorded, recorded_processes

_POLL_S = 0.1
# A process that only tests whether the lock is held holds it for a moment.
_LOCK_TIMEOUT_S = 1.0
# The graces of all tiers one after the other, and some more.
_STOP_TIMEOUT_S = 150.0
_END_TIMEOUT_S = 10.0


@contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Hold the home for as long as this process lives: however it ends, the system lets go of the lock."""
    with (home.state / "lock").open("w") as file:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not _lock(file):
            if time.monotonic() > deadline:
                raise StackError(f"a stack is already running in {home.root}; stop it with: rappen down")
            time.sleep(_POLL_S)
        yield


def is_held(home: Home) -> bool:
    """Say whether a supervisor of this home is alive."""
    path = home.state / "lock"
    try:
        with path.open("r+") as file:
            return not _lock(file)
    except FileNotFoundError:
        return False
    except OSError as error:
        # As where somebody else has started it: only its owner may look into the folder.
        raise StackError(f"{path} cannot be opened: {error.strerror}") from error


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def running_stack(home: Home) -> dict[str, Any]:
    """Give the content of `stack.json` of the running stack; raises StackError when none is up."""
    held = is_held(home)
    content = read_json(home.stack_file) if held else None
    if content is not None:
        return content
    if held:
        state = "is still starting or stopping"
    elif any(record.find() for record in recorded_processes(home)):
        state = "runs without its supervisor, which was killed; stop it with: rappen down"
    else:
        state = "is not running; start it with: rappen up"
    raise StackError(f"the stack in {home.root} {state}")


def stop_stack(home: Home, *, purge: bool) -> list[str]:
    """Stop the stack of this home, whatever state its supervisor is in; gives the names of what was stopped.

    With `purge` everything the stack ever wrote is deleted: data, secrets and logs.
    """
    before = [record.name for record in recorded_processes(home) if record.find() is not None]
    if is_held(home):
        _stop_supervisor(home)
    # What a supervisor left behind that was killed, now or before.
    end_recorded(recorded_processes(home))
    for file in (home.stack_file, home.supervisor_file, home.environments_file):
        file.unlink(missing_ok=True)
    if purge and home.folder.exists():
        shutil.rmtree(home.folder)
    return before


def _stop_supervisor(home: Home) -> None:
    supervisor = _supervisor(home)
    process = supervisor.find() if supervisor else None
    if process is None:
        raise StackError(f"the stack in {home.root} is held by a process that left no record; try again in a second")
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while is_held(home):
        if time.monotonic() > deadline:
            process.kill()
            break
        time.sleep(_POLL_S)
    # It lets go of the stack a moment before it ends.
    deadline = time.monotonic() + _END_TIMEOUT_S
    while _lives(process) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _supervisor(home: Home) -> RecordedProcess | None:
    content = read_json(home.supervisor_file)
    recorded = content.get("supervisor") if content else None
    return RecordedProcess.from_json(recorded) if recorded else None
