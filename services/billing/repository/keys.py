"""Narrow keys: the numbers that stand for mandates, accounts and dimensions inside the ledger.

A number never changes once it is given, so workers keep what they have seen. What is missing is made in a small
transaction of its own before the charge; a number that nothing uses does no harm.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import asyncpg

from services.billing.domain.ledger import AccountType

__all__ = ["AccountKey", "DimensionKey", "Keys", "ensure_accounts", "ensure_mandates"]

# Bounds the memory of a worker: about 200 bytes an entry.
ENTRIES_MAX = 200_000


class AccountKey(NamedTuple):
    """Whose account: a member's, or one of the mandate's own (`user_id` is null)."""

    mandate_no: int
    type: AccountType
    user_id: str | None = None


class DimensionKey(NamedTuple):
    """What usage was for."""

    mandate_no: int
    provider: str | None
    model: str | None
    feature_code: str | None
    feature_instance_id: str | None


K = TypeVar("K", bound=Hashable)


class _Numbers(Generic[K]):
    """A bounded map; the oldest half goes when it is full, because what is in use comes back at once."""

    def __init__(self) -> None:
        self._numbers: dict[K, int] = {}

    def missing(self, keys: Iterable[K]) -> list[K]:
        return [key for key in dict.fromkeys(keys) if key not in self._numbers]

    def add(self, found: Iterable[tuple[K, int]]) -> None:
        self._numbers.update(found)

    def trim(self) -> None:
        if len(self._numbers) > ENTRIES_MAX:
            for key in list(self._numbers)[: ENTRIES_MAX // 2]:
                del self._numbers[key]

    def __getitem__(self, key: K) -> int:
        return self._numbers[key]


class Keys:
    """The numbers a worker has seen. `trim` between batches, never inside one."""

    def __init__(self) -> None:
        self.mandates: _Numbers[str] = _Numbers()
        self.accounts: _Numbers[AccountKey] = _Numbers()
        self.dimensions: _Numbers[DimensionKey] = _Numbers()

    def trim(self) -> None:
        """Keeps memory bounded."""
        self.mandates.trim()
        self.accounts.trim()
        self.dimensions.trim()

    async def learn_mandates(self, connection: asyncpg.Connection, ids: Iterable[str]) -> None:
        """Finds or makes the mandates."""
        missing = self.mandates.missing(ids)
        if missing:
            self.mandates.add((await ensure_mandates(connection, missing)).items())

    async def learn_accounts(self, connection: asyncpg.Connection, keys: Iterable[AccountKey]) -> list[AccountKey]:
        """Finds or makes the accounts; returns those that were not known to this worker."""
        missing = self.accounts.missing(keys)
        if missing:
            self.accounts.add((await ensure_accounts(connection, missing)).items())
        return missing

    async def learn_dimensions(self, connection: asyncpg.Connection, keys: Iterable[DimensionKey]) -> None:
        """Finds or makes the dimensions."""
        missing = self.dimensions.missing(keys)
        if missing:
            self.dimensions.add(await _ensure_dimensions(connection, missing))


async def ensure_mandates(connection: asyncpg.Connection, ids: Sequence[str]) -> dict[str, int]:
    """The numbers of mandates; those that are new get the default settings."""
    ordered = sorted(set(ids))
    await connection.execute(
        "INSERT INTO mandates (id) SELECT id FROM unnest($1::text[]) AS given (id)"
        " WHERE NOT EXISTS (SELECT 1 FROM mandates m WHERE m.id = given.id) ON CONFLICT (id) DO NOTHING",
        ordered,
    )
    rows = await connection.fetch("SELECT id, no FROM mandates WHERE id = ANY($1)", ordered)
    return {row["id"]: row["no"] for row in rows}


async def ensure_accounts(connection: asyncpg.Connection, keys: Sequence[AccountKey]) -> dict[AccountKey, int]:
    """The numbers of accounts; those that are new begin with nothing."""
    ordered = sorted(set(keys), key=lambda key: (key.mandate_no, key.type, key.user_id or ""))
    columns = [list(column) for column in zip(*ordered, strict=True)]
    found = (
        "SELECT a.mandate_no, a.type, a.user_id, a.no FROM unnest($1::int[], $2::text[], $3::text[])"
        " AS given (mandate_no, type, user_id)"
        " JOIN accounts a ON a.mandate_no = given.mandate_no AND a.type = given.type"
        " AND a.user_id IS NOT DISTINCT FROM given.user_id"
    )
    rows = await connection.fetch(found, *columns)
    if len(rows) < len(ordered):
        await connection.execute(
            "INSERT INTO accounts (mandate_no, type, user_id) SELECT * FROM unnest($1::int[], $2::text[], $3::text[])"
            " ON CONFLICT DO NOTHING",
            *columns,
        )
        rows = await connection.fetch(found, *columns)
    return {AccountKey(row["mandate_no"], row["type"], row["user_id"]): row["no"] for row in rows}


async def _ensure_dimensions(
    connection: asyncpg.Connection, keys: Sequence[DimensionKey]
) -> list[tuple[DimensionKey, int]]:
    ordered = sorted(set(keys), key=lambda key: tuple(str(part or "") for part in key))
    columns = [list(column) for column in zip(*ordered, strict=True)]
    given = (
        "unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[])"
        " AS given (mandate_no, provider, model, feature_code, feature_instance_id)"
    )
    await connection.execute(
        "INSERT INTO dimensions (mandate_no, provider, model, feature_code, feature_instance_id)"
        f" SELECT * FROM {given} ON CONFLICT DO NOTHING",
        *columns,
    )
    rows = await connection.fetch(
        "SELECT d.mandate_no, d.provider, d.model, d.feature_code, d.feature_instance_id, d.no"
        f" FROM {given} JOIN dimensions d ON d.mandate_no = given.mandate_no"
        " AND d.provider IS NOT DISTINCT FROM given.provider AND d.model IS NOT DISTINCT FROM given.model"
        " AND d.feature_code IS NOT DISTINCT FROM given.feature_code"
        " AND d.feature_instance_id IS NOT DISTINCT FROM given.feature_instance_id",
        *columns,
    )
    return [(DimensionKey(*tuple(row)[:5]), row["no"]) for row in rows]
