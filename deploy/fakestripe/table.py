"""A table of the fake: rows by id, oldest first, and which of them may have changed since they were saved.

Rows are plain JSON that every effect changes in place, so what has changed is found out here: whatever was put, taken
out or given out is looked at when it is saved, and written only if it differs from what was written before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

import orjson

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_values

Json = dict[str, Any]


class Table(dict[str, Json]):
    """Rows by id. Whoever changes a row gets it from here in the same effect."""

    def __init__(self, rows: Mapping[str, Json] | None = None) -> None:
        super().__init__(rows or {})
        # In the order in which they were given out, in which new rows are to be read again.
        self._given_out: dict[str, None] = {}
        # What each row was when it was written, by its hash; of what was read from the file that is not known.
        self._written: dict[str, int | None] = dict.fromkeys(self)

    def __getitem__(self, key: str) -> Json:
        self._given_out[key] = None
        return super().__getitem__(key)

    @overload  # type: ignore[override]
    def get(self, key: str, default: None = None, /) -> Json | None: ...
    @overload
    def get(self, key: str, default: Json, /) -> Json: ...
    def get(self, key: str, default: Json | None = None, /) -> Json | None:
        """Return a row, or the default."""
        if key in self:
            self._given_out[key] = None
        return super().get(key, default)

    def __setitem__(self, key: str, row: Json) -> None:
        self._given_out[key] = None
        super().__setitem__(key, row)

    def setdefault(self, key: str, default: Json, /) -> Json:
        """Return a row, which is the default if there was none."""
        self._given_out[key] = None
        return super().setdefault(key, default)

    def __delitem__(self, key: str) -> None:
        self._given_out[key] = None
        super().__delitem__(key)

    def pop(self, key: str, default: Json | None = None, /) -> Json | None:  # type: ignore[override]
        """Take a row out, if it is there."""
        self._given_out[key] = None
        return super().pop(key, default)

    def values(self) -> dict_values[str, Json]:
        """Return all rows, each of which may be changed; `look` is for who changes none."""
        self.suspect()
        return super().values()

    def items(self) -> dict_items[str, Json]:
        """Return all rows with their ids, as `values`."""
        self.suspect()
        return super().items()

    def look(self) -> dict_values[str, Json]:
        """Return all rows for reading: the whole table need not be compared for it."""
        return super().values()

    def suspect(self) -> None:
        """Say that any row may have changed."""
        self._given_out.update(dict.fromkeys(self))

    def take_changes(self) -> dict[str, orjson.Fragment | None]:
        """Return the rows that differ from what was taken before, as JSON, and None for those that are gone."""
        changes: dict[str, orjson.Fragment | None] = {}
        given_out, self._given_out = self._given_out, {}
        for key in given_out:
            if key not in self:
                if key in self._written:
                    del self._written[key]
                    changes[key] = None
                continue
            text = orjson.dumps(super().__getitem__(key))
            written = hash(text)
            if self._written.get(key) != written:
                self._written[key] = written
                changes[key] = orjson.Fragment(text)
        return changes
