"""Copies of another service's entries, each with a version: the newest wins, whatever the order of arrival."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["Replica"]


class Replica:
    """A table that holds such a copy: its columns are named like the fields of an entry, and one is `version`."""

    def __init__(self, table: sa.Table) -> None:
        self._key = [column.name for column in table.primary_key.columns]
        self._columns = [column.name for column in table.columns]
        new = insert(table)
        self._statement = new.on_conflict_do_update(
            index_elements=self._key,
            set_={name: new.excluded[name] for name in self._columns if name not in self._key},
            where=table.c.version < new.excluded.version,
        )

    async def write(self, connection: AsyncConnection, entry: object, version: int) -> bool:
        """Writes one entry; whether it was newer than what is here."""
        return (await connection.execute(self._statement, self._row(entry, version))).rowcount > 0

    async def write_all(self, connection: AsyncConnection, entries: Iterable[tuple[object, int]]) -> None:
        """Writes entries with their versions in the order of their keys, so that two workers (during a rebalance) never
        wait for each other in a circle."""
        rows = [self._row(entry, version) for entry, version in entries]
        if rows:
            await connection.execute(self._statement, sorted(rows, key=self._order))

    def _order(self, row: Mapping[str, Any]) -> list[Any]:
        return [row[name] for name in self._key]

    def _row(self, entry: object, version: int) -> dict[str, Any]:
        return {name: version if name == "version" else getattr(entry, name) for name in self._columns}
