"""The clock as an argument, so that the wiring of a service alone decides what time it is.

There are two times. **The platform's time**, `platform_clock(settings)`, dates what customers, operators and the books
see, and is what jobs wait for: events, charges, prices, periods, trials, stored webhooks, dead letters. In development
one command moves it ahead, for all processes of a stack at the same moment (`rappen clock advance`). **The machine's
time**, `system_clock`, is for what is compared with the clock of a machine: tokens and callers' contexts, Stripe's
signatures, rate limits, the ages of records in Kafka and of rows in an outbox, logs.
"""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.chassis.logging import get_logger
from services.chassis.metrics import CLOCK_OFFSET_SECONDS
from services.chassis.settings import ServiceSettings

__all__ = [
    "LOOK_EVERY_S",
    "OFFSET_S_MAX",
    "AdjustableClock",
    "Clock",
    "Move",
    "offset_s_of",
    "platform_clock",
    "read_move",
    "system_clock",
]

Clock = Callable[[], datetime]

# How often a process looks whether the file has changed.
LOOK_EVERY_S: Final = 0.1
# 150 years, so that every time stays within those of the contracts.
OFFSET_S_MAX: Final = 150 * 366 * 24 * 3600

_log = get_logger(__name__)


def system_clock() -> datetime:
    """The machine's time, in UTC."""
    return datetime.now(UTC)


def platform_clock(settings: ServiceSettings) -> Clock:
    """The platform's time: the machine's, unless a file moves it in development. Made once in a process."""
    if settings.clock_file is None:
        return system_clock
    clock = AdjustableClock(settings.clock_file)
    CLOCK_OFFSET_SECONDS.set_function(lambda: clock.offset_s)
    return clock


def offset_s_of(clock: Clock) -> int:
    """By how many seconds a clock is ahead of the machine's; 0 for one that cannot be moved."""
    return clock.offset_s if isinstance(clock, AdjustableClock) else 0


class Move(NamedTuple):
    """The content of the file: seconds ahead of the machine, from a moment of the machine's time on (since 1970).

    That moment lies more than `LOOK_EVERY_S` after the writing, so that no process judges an event by the earlier time
    that another one has dated by the later.
    """

    offset_s: int
    counts_from: float = 0.0


def read_move(file: Path) -> Move:
    """Raises `OSError`, and `ValueError` for what is no move."""
    content: Any = json.loads(file.read_bytes())
    if not isinstance(content, dict):
        raise ValueError("no object")
    move = Move(content.get("offset_s", -1), content.get("counts_from", 0.0))
    if type(move.offset_s) is not int or not 0 <= move.offset_s <= OFFSET_S_MAX:
        raise ValueError(f"offset_s is no whole number from 0 to {OFFSET_S_MAX}")
    if type(move.counts_from) not in (int, float):
        raise ValueError("counts_from is no number")
    return move


class AdjustableClock:
    """The machine's time and an offset from a file, which is read again when it has changed.

    It never goes back: a smaller offset is ignored, and so is a file that is gone or cannot be read. A clock that is
    made takes the offset that it finds at once.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = timedelta()
        # Read, and not in force yet.
        self._next: Move | None = None
        self._seen: tuple[int, int, int] | None = None
        self._look()
        # Without a line of log, which would be among the answer of a command.
        if self._next is not None:
            self._reach(self._next)

    def __call__(self) -> datetime:
        """The platform's time, in UTC."""
        self._refresh()
        return datetime.now(UTC) + self._offset

    @property
    def offset_s(self) -> int:
        """By how many seconds it is ahead of the machine's time now."""
        self._refresh()
        return self._offset // timedelta(seconds=1)

    def _refresh(self) -> None:
        """A comparison, most of the time: it is called on the way of every charge."""
        if time.monotonic() - self._looked_at >= LOOK_EVERY_S:
            self._look()
        if self._next is not None and time.time() >= self._next.counts_from:
            self._reach(self._next)
            _log.info("clock moved", offset_s=self._offset // timedelta(seconds=1))

    def _reach(self, move: Move) -> None:
        self._offset, self._next = timedelta(seconds=move.offset_s), None

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        stamp = _stamp(self._file)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            move = read_move(self._file)
        except (OSError, ValueError) as error:
            _log.warning("clock file ignored", file=str(self._file), error=f"{type(error).__name__}: {error}")
            return
        newest = self._offset // timedelta(seconds=1) if self._next is None else self._next.offset_s
        if move.offset_s > newest:
            self._next = move
        elif move.offset_s < newest:
            _log.warning("clock does not go back", offset_s=newest, asked_s=move.offset_s)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """What changes with the file; None where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
