"""Which events this worker settled lately: where one of them comes again, it is looked up before the batch is written.

Most repeats follow soon after their event, on its partition. One that is not known from here is found by the key of its
row, and the whole batch has to begin again; this only saves that. It decides nothing.
"""

from collections.abc import Iterable
from typing import Final

__all__ = ["RecentEvents"]

# Of each of two generations: a few seconds at full load, and at most 20 MB.
GENERATION_MAX: Final = 60_000


class RecentEvents:
    """The ids of the last events, at least `GENERATION_MAX` and at most about twice as many."""

    def __init__(self) -> None:
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def __contains__(self, event_id: bytes) -> bool:
        return event_id in self._young or event_id in self._old

    def remember(self, event_ids: Iterable[bytes]) -> None:
        """Adds events; when the young generation is full, the old one is forgotten."""
        self._young.update(event_ids)
        if len(self._young) >= GENERATION_MAX:
            self._old, self._young = self._young, set()
