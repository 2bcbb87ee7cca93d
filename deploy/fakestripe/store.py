"""The fake's memory: tables of JSON objects, its own clock, and the state file they survive in."""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Callable
from pathlib import Path

from deploy.fakestripe.state_file import StateFile
from deploy.fakestripe.table import Json, Table

__all__ = ["Json", "Store"]

EVENT_LIFETIME_S = 30 * 24 * 3600
_ALPHABET = string.ascii_letters + string.digits


class Store:
    """All objects by table and id, in order of creation, and the clock they are dated by.

    Everything is plain JSON, so that it can be saved and loaded. One event loop uses it, and no effect awaits between
    reading and writing: every effect is atomic without locks.
    """

    def __init__(self, wall_time: Callable[[], float], path: Path | None = None) -> None:
        self._wall_time = wall_time
        self._file = None if path is None else StateFile(path)
        self._clock_offset_s, self._tables = (0, dict[str, Table]()) if self._file is None else self._file.load()
        self._version = 0
        self._saved_version = 0
        self._saving = asyncio.Lock()

    def table(self, name: str) -> Table:
        """Return the objects of one table by id, oldest first."""
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = Table()
        return table

    def suspect(self) -> None:
        """Say that any object may have changed: whoever changes them has not got them by their ids."""
        for table in self._tables.values():
            table.suspect()

    def tables(self) -> dict[str, int]:
        """Return the number of rows of every table."""
        return {name: len(rows) for name, rows in sorted(self._tables.items())}

    def add(self, table: str, row: Json) -> Json:
        """Put a new object at the end of a table and return it."""
        self.table(table)[row["id"]] = row
        return row

    def now(self) -> int:
        """Return the fake's own time in whole seconds since 1970."""
        return int(self.precise_now())

    def precise_now(self) -> float:
        """Return the fake's own time in seconds, for delays shorter than one second."""
        return self._wall_time() + self._clock_offset_s

    @property
    def clock_offset_s(self) -> int:
        """By how many seconds the fake's own time has been moved ahead."""
        return self._clock_offset_s

    def wall_time(self) -> float:
        """Return the machine's time, which signatures carry."""
        return self._wall_time()

    def advance(self, seconds: int) -> None:
        """Move the fake's own time forward."""
        self._clock_offset_s += seconds

    @staticmethod
    def new_id(prefix: str, length: int = 24) -> str:
        """Return a fresh id such as `pi_` and 24 letters and digits."""
        return prefix + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in secrets.token_bytes(length))

    def prune(self) -> None:
        """Forget what Stripe forgets too: events after 30 days, and answers by idempotency key after a day."""
        oldest_event = self.now() - EVENT_LIFETIME_S
        oldest_key = self.now() - 24 * 3600
        pending = {row["event"] for row in self.table("delivery").look() if row["state"] == "pending"}
        self._keep("event", lambda row: row["created"] >= oldest_event or row["id"] in pending)
        self._keep("undelivered", lambda row: row["id"] in self.table("event"))
        self._keep("delivery", lambda row: row["created"] >= oldest_event or row["state"] == "pending")
        self._keep("idempotency", lambda row: row["created"] >= oldest_key)

    def _keep(self, table: str, wanted: Callable[[Json], bool]) -> None:
        rows = self.table(table)
        for key in [key for key, row in zip(rows, rows.look(), strict=True) if not wanted(row)]:
            del rows[key]

    def touch(self) -> None:
        """Note that something changed, so that the next `saved` writes it."""
        self._version += 1

    async def saved(self) -> None:
        """Return once every change noted so far is in the state file.

        Callers that wait together share one write: the lock lets one of them save for all who queued behind it.
        """
        if self._file is None:
            return
        wanted = self._version
        async with self._saving:
            if self._saved_version >= wanted:
                return
            version = self._version
            changes = {name: changed for name, table in self._tables.items() if (changed := table.take_changes())}
            if self._file.wants_whole:
                await self._file.replace(self._clock_offset_s, self._tables)
            else:
                self._file.add(self._clock_offset_s, changes)
            self._saved_version = version
