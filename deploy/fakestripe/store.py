"""The fake's memory: tables of JSON objects, its own clock, and the state file they survive in."""

from __future__ import annotations

import asyncio
import os
import secrets
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

Json = dict[str, Any]

FORMAT = "fakestripe-state-1"
EVENT_LIFETIME_S = 30 * 24 * 3600
_ALPHABET = string.ascii_letters + string.digits


class StateFileError(Exception):
    """The state file exists but is not one this version can continue from."""


class Store:
    """All objects by table and id, in order of creation, and the clock they are dated by.

    Everything is plain JSON, so that the whole is saved and loaded as one document. One event loop uses it, and
    no effect awaits between reading and writing: every effect is atomic without locks.
    """

    def __init__(self, wall_time: Callable[[], float], path: Path | None = None) -> None:
        self._wall_time = wall_time
        self._path = path
        self._tables: dict[str, dict[str, Json]] = {}
        self._clock_offset_s = 0
        self._version = 0
        self._saved_version = 0
        self._saving = asyncio.Lock()
        if path is not None and path.exists():
            self._load(path)

    def table(self, name: str) -> dict[str, Json]:
        """Return the objects of one table by id, oldest first."""
        return self._tables.setdefault(name, {})

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
        pending = {row["event"] for row in self.table("delivery").values() if row["state"] == "pending"}
        self._keep("event", lambda row: row["created"] >= oldest_event or row["id"] in pending)
        self._keep("undelivered", lambda row: row["id"] in self._tables["event"])
        self._keep("delivery", lambda row: row["created"] >= oldest_event or row["state"] == "pending")
        self._keep("idempotency", lambda row: row["created"] >= oldest_key)

    def _keep(self, table: str, wanted: Callable[[Json], bool]) -> None:
        self._tables[table] = {key: row for key, row in self.table(table).items() if wanted(row)}

    def touch(self) -> None:
        """Note that something changed, so that the next `saved` writes it."""
        self._version += 1

    async def saved(self) -> None:
        """Return once every change noted so far is in the state file.

        Callers that wait together share one write: the lock lets one of them save for all who queued behind it.
        """
        if self._path is None:
            return
        wanted = self._version
        async with self._saving:
            if self._saved_version >= wanted:
                return
            version = self._version
            document = {"format": FORMAT, "clock_offset_s": self._clock_offset_s, "tables": self._tables}
            await asyncio.to_thread(_replace, self._path, orjson.dumps(document))
            self._saved_version = version

    def _load(self, path: Path) -> None:
        try:
            document = orjson.loads(path.read_bytes())
            if document["format"] != FORMAT:
                raise StateFileError(f"{path} has the format {document['format']!r}, not {FORMAT!r}")
            self._tables = document["tables"]
            self._clock_offset_s = document["clock_offset_s"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise StateFileError(f"{path} is not a state file of the fake Stripe: {error!r}") from error


def _replace(path: Path, content: bytes) -> None:
    """Write beside the file and rename over it: a reader or a crash sees the old or the new, never a half."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
