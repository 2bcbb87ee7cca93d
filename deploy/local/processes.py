"""What runs, as recorded on disk, and ending it: what still works when the supervisor itself is gone."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from deploy.local.home import Home, read_json

# Start times of one process, read at two moments, differ a little when the system's clock is being adjusted.
_SAME_START_S = 2.0
_KILLED_S = 10.0
_POLL_S = 0.05


@dataclass(frozen=True)
class RecordedProcess:
    """A process that was started, with enough to distinguish it from a later one that was given its number."""

    name: str
    pid: int
    started_at: float
    tier: int
    stop_signal: int
    grace_s: float

    @classmethod
    def of(
        cls, name: str, pid: int, *, tier: int, stop_signal: signal.Signals, grace_s: float
    ) -> RecordedProcess | None:
        """Record a process that runs; None when it has ended already."""
        try:
            started_at = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            return None
        return cls(name, pid, started_at, tier, int(stop_signal), grace_s)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RecordedProcess:
        """Read what `to_json` gave."""
        return cls(**content)

    def to_json(self) -> dict[str, Any]:
        """Give the record as JSON."""
        return asdict(self)

    def find(self) -> psutil.Process | None:
        """Give the process if it still runs, and is the very one that was recorded."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at) <= _SAME_START_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def recorded_processes(home: Home) -> list[RecordedProcess]:
    """Read which processes the last supervisor of this home had."""
    content = read_json(home.supervisor_file) or {"processes": []}
    return [RecordedProcess.from_json(record) for record in content["processes"]]


def end_recorded(recorded: Iterable[RecordedProcess]) -> list[str]:
    """Stop what still runs, tier by tier from the highest, with each one's own signal and grace; gives their names."""
    alive = [record for record in recorded if record.find() is not None]
    for tier in sorted({record.tier for record in alive}, reverse=True):
        members = [record for record in alive if record.tier == tier]
        for record in members:
            _signal(record, record.stop_signal)
        stubborn = _wait(members, max(record.grace_s for record in members))
        for record in stubborn:
            _signal(record, signal.SIGKILL)
        _wait(stubborn, _KILLED_S)
    return [record.name for record in alive]


def _wait(records: list[RecordedProcess], timeout_s: float) -> list[RecordedProcess]:
    """Wait for processes that are not our children; gives those that still run at the end of the time."""
    deadline = time.monotonic() + timeout_s
    while True:
        running = [record for record in records if record.find() is not None]
        if not running or time.monotonic() > deadline:
            return running
        time.sleep(_POLL_S)


def _signal(record: RecordedProcess, number: int) -> None:
    process = record.find()
    if process is None:
        return
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return  # It ended between the look and the signal, which is what the signal is for.
