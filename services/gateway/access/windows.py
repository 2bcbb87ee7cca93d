"""How many requests a caller has made in the last minute: counted by one process for itself, or by all gateways.

Each request is remembered by its moment, so a limit holds for any minute and not only from one full minute to the next.
"""

import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import array, insert

from services.chassis.database import Database
from services.gateway.tables import rate_windows

__all__ = ["OwnWindows", "SharedWindows", "Taken", "Windows"]

WINDOW = timedelta(minutes=1)
# How often what is over is deleted; by each process.
SWEEP_S = 60.0


class Taken(NamedTuple):
    """Whether a request is within the limit, how many more are, and the seconds until the oldest no longer counts."""

    granted: bool
    remaining: int
    reset_s: float


class Windows(Protocol):
    """The requests of the last minute."""

    async def take(self, subject: str, operation_id: str, quota: int) -> Taken:
        """Counts one request of a caller for an operation, unless the minute already has as many as the quota."""
        ...


class OwnWindows:
    """In this process's memory: for one gateway."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`monotonic` gives the time in seconds."""
        self._monotonic = monotonic
        # The moments of the requests, the oldest first.
        self._taken: dict[tuple[str, str], deque[float]] = {}
        self._sweep_at = monotonic() + SWEEP_S

    async def take(self, subject: str, operation_id: str, quota: int) -> Taken:
        now = self._monotonic()
        over = now - WINDOW.total_seconds()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            self._taken = {key: taken for key, taken in self._taken.items() if taken[-1] > over}
        taken = self._taken.setdefault((subject, operation_id), deque())
        while taken and taken[0] <= over:
            taken.popleft()
        granted = len(taken) < quota
        if granted:
            taken.append(now)
        return Taken(granted, quota - len(taken), taken[0] - over)


class SharedWindows:
    """In the gateway's schema: for several gateways, on one machine or many, at the cost of a statement a request.

    The row is locked while a request is counted, so that two at once cannot both be the last. The table is not logged:
    after a crash of the server everybody begins a new minute.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sweep_at = time.monotonic() + SWEEP_S

    async def take(self, subject: str, operation_id: str, quota: int) -> Taken:
        async with self._database.reading() as connection:
            if time.monotonic() >= self._sweep_at:
                self._sweep_at = time.monotonic() + SWEEP_S
                await connection.execute(_SWEEP)
            taken = {"subject": subject, "operation": operation_id, "quota": quota}
            row = (await connection.execute(_TAKE, taken)).one()
        return Taken(row.granted, quota - row.taken, float(row.reset_s))


_now = sa.func.statement_timestamp(type_=sa.DateTime(timezone=True))
_at = sa.func.unnest(rate_windows.c.taken).column_valued("at")
_recent = sa.func.array(sa.select(_at).where(_at > _now - WINDOW).scalar_subquery(), type_=rate_windows.c.taken.type)
_granted = sa.func.cardinality(_recent) < sa.bindparam("quota", type_=sa.Integer)
_count = sa.func.cardinality(rate_windows.c.taken)

_TAKE = (
    insert(rate_windows)
    .values(subject=sa.bindparam("subject"), operation_id=sa.bindparam("operation"), granted=True, taken=array([_now]))
    .on_conflict_do_update(
        index_elements=[rate_windows.c.subject, rate_windows.c.operation_id],
        set_={
            "granted": _granted,
            "taken": sa.case((_granted, sa.func.array_append(_recent, _now)), else_=_recent),
        },
    )
    .returning(
        rate_windows.c.granted,
        _count.label("taken"),
        sa.extract("epoch", rate_windows.c.taken[1] + WINDOW - _now).label("reset_s"),
    )
)
_SWEEP = sa.delete(rate_windows).where(rate_windows.c.taken[_count] < _now - WINDOW)
