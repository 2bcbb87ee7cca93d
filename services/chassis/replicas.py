"""Copies of another service's entries, each with a version: the newest wins, whatever the order of arrival."""

from collections.abc import Sequence

import asyncpg
import sqlalchemy as sa

__all__ = ["Replica"]


class Replica:
    """A table that holds such a copy: its columns are named like the fields of an entry, and one is `version`."""

    def __init__(self, table: sa.Table) -> None:
        key = [column.name for column in table.primary_key.columns]
        self._fields = [column.name for column in table.columns if column.name != "version"]
        columns = [*self._fields, "version"]
        values = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
        self._statement = (
            f"INSERT INTO {table.name} AS known ({', '.join(columns)}) VALUES ({values})"
            f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes} WHERE known.version < excluded.version"
        )

    def row(self, entry: object, version: int) -> tuple[object, ...]:
        """An entry as `write_all` takes it."""
        return (*(getattr(entry, name) for name in self._fields), version)

    async def write(self, connection: asyncpg.Connection, entry: object, version: int) -> bool:
        """Writes one entry; whether it was newer than what is here."""
        status: str = await connection.execute(self._statement, *self.row(entry, version))
        return not status.endswith(" 0")

    async def write_all(self, connection: asyncpg.Connection, rows: Sequence[tuple[object, ...]]) -> None:
        """Writes entries in their order."""
        await connection.executemany(self._statement, rows)
