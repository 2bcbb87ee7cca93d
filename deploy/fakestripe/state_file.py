"""The state file: the whole as one JSON document, and under it, line by line, what has changed since.

So what an effect costs to save does not grow with all that there is. Once the lines are as long as the document, the
whole is written anew.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import orjson

from deploy.fakestripe.table import Table

FORMAT = "fakestripe-state-1"
# Lines are kept at least up to this length, so that a small state is not written anew all the time.
LINES_BYTES_MIN = 1024 * 1024


class StateFileError(Exception):
    """The state file exists but is not one this version can continue from."""


class StateFile:
    """One file, of one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Nothing can be added before the whole was written: not to a file that is not there, nor to a broken line.
        self._sound = False
        self._document_bytes = self._lines_bytes = 0

    @property
    def wants_whole(self) -> bool:
        """Tell whether the whole is to be written, and no line."""
        return not self._sound or self._lines_bytes > max(LINES_BYTES_MIN, self._document_bytes)

    def load(self) -> tuple[int, dict[str, Table]]:
        """Return by how much the clock was ahead, and the tables; nothing where there is no file yet."""
        if not self._path.exists():
            return 0, {}
        try:
            document, *lines = self._path.read_bytes().split(b"\n")
            state = orjson.loads(document)
            if state["format"] != FORMAT:
                raise StateFileError(f"{self._path} has the format {state['format']!r}, not {FORMAT!r}")
            # Behind the last end of a line is nothing, or a line that was being written when the process was killed.
            for line in lines[:-1]:
                _apply(state, orjson.loads(line))
            return state["clock_offset_s"], {name: Table(rows) for name, rows in state["tables"].items()}
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise StateFileError(f"{self._path} is not a state file of the fake Stripe: {error!r}") from error

    def add(self, clock_offset_s: int, changes: dict[str, Any]) -> None:
        """Add a line: by table the rows that have changed, None for one that is gone."""
        line = orjson.dumps({"clock_offset_s": clock_offset_s, "changes": changes}) + b"\n"
        self._sound = False
        with self._path.open("ab", buffering=0) as file:
            if file.write(line) != len(line):
                raise OSError(f"{self._path} was not written to the end")
        self._sound = True
        self._lines_bytes += len(line)

    async def replace(self, clock_offset_s: int, tables: dict[str, Table]) -> None:
        """Write the whole as it is now."""
        document = {"format": FORMAT, "clock_offset_s": clock_offset_s, "tables": tables}
        content = orjson.dumps(document) + b"\n"
        self._sound = False
        await asyncio.to_thread(_replace, self._path, content)
        self._sound = True
        self._document_bytes, self._lines_bytes = len(content), 0


def _apply(state: dict[str, Any], line: dict[str, Any]) -> None:
    state["clock_offset_s"] = line["clock_offset_s"]
    for name, changes in line["changes"].items():
        rows = state["tables"].setdefault(name, {})
        for key, row in changes.items():
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = row


def _replace(path: Path, content: bytes) -> None:
    """Write beside the file and rename over it: a reader or a crash sees the old or the new, never a half."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
