"""Who used the two cores during a run: each process of the stack, and everybody else on the machine."""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil

__all__ = ["CpuMeter", "CpuUse"]


@dataclass(frozen=True, slots=True)
class CpuUse:
    """CPU seconds by process of the stack, and of all others: a machine that is not ours alone makes slow figures."""

    by_process: Mapping[str, float]
    others: float
    # What the machine could have given in that time, and what the hypervisor took away.
    capacity: float
    stolen: float

    @property
    def others_percent(self) -> float:
        """How much of the machine processes outside of the bench used, or the hypervisor took."""
        return 100 * (self.others + self.stolen) / self.capacity

    def microseconds(self, events: int) -> dict[str, float]:
        """CPU microseconds an event by process."""
        return {name: 1e6 * seconds / events for name, seconds in self.by_process.items()}


class CpuMeter:
    """Counts from where it is made. Processes are given by name, with all their children."""

    def __init__(self, pids: Mapping[str, list[int]]) -> None:
        self._pids = {**pids, "bench": [psutil.Process().pid]}
        self._before = self._seconds()
        self._machine = psutil.cpu_times()

    def read(self, ended: Mapping[str, float] | None = None) -> CpuUse:
        """The use since then; `ended` are the CPU seconds that processes told which have ended meanwhile."""
        machine, used = psutil.cpu_times(), self._seconds()
        by_process = {name: used[name] - self._before[name] for name in used} | dict(ended or {})
        passed = {name: getattr(machine, name) - getattr(self._machine, name) for name in machine._fields}
        # Guest time is part of user time.
        capacity = sum(seconds for name, seconds in passed.items() if not name.startswith("guest"))
        busy = capacity - passed["idle"] - passed["iowait"] - passed["steal"]
        return CpuUse(by_process, max(0.0, busy - sum(by_process.values())), capacity, passed["steal"])

    def _seconds(self) -> dict[str, float]:
        seconds = {name: sum(map(_of_tree, pids)) for name, pids in self._pids.items() if name != "bench"}
        own = psutil.Process().cpu_times()
        return seconds | {"bench": own.user + own.system}


def _of_tree(pid: int) -> float:
    root = psutil.Process(pid)
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # It ended a moment ago; its parent counts it among its children's times.
        total += times.user + times.system + times.children_user + times.children_system
    return total
