"""What happens by itself when its time has come, one after the other and each at its own time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from deploy.fakestripe.operation import Call
from deploy.fakestripe.store import Store

Timer = Callable[[Store], Iterator[tuple[int, Callable[[Call], None]]]]


def run_due(timers: Iterable[Timer], call: Call) -> None:
    """Carry out everything due by now, the earliest first, dated by when it was due.

    What one of them plans for a time that has passed too is carried out as well: months that the clock is moved over
    are lived through. The call collects all events in that order.
    """
    now = call.store.now()
    while True:
        planned = [due for timer in timers for due in timer(call.store) if due[0] <= now]
        if not planned:
            call.at = None
            return
        call.at, effect = min(planned, key=lambda due: due[0])
        # Timers look through their tables without saying that anything may change, because mostly nothing is due.
        call.store.suspect()
        effect(call)
