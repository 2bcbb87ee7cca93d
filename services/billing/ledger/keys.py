"""Narrow keys: the numbers that stand for mandates, accounts and dimensions inside the ledger.

A number never changes once it is given, so workers keep what they have seen. What is missing is made in a small
transaction of its own before the charge; a number that nothing uses does no harm.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.domain import AccountType, BillingModel, charged_account_type
from services.chassis.database import driver_connection

__all__ = [
    "AccountKey",
    "ChargeKeyCache",
    "ChargeKeys",
    "DimensionKey",
    "UsageDimensions",
    "ensure_accounts",
    "ensure_charge_keys",
    "ensure_dimensions",
    "ensure_mandates",
    "find_charge_keys",
]

# Bounds the memory of a worker: about 500 bytes an entry where names are short, and four at most for each character.
CHARGE_KEYS_MAX = 50_000
CHARGE_KEYS_CHARACTERS_MAX = 6_000_000


class AccountKey(NamedTuple):
    """Whose account: a member's, or one of the mandate's own (`user_id` is null)."""

    mandate_no: int
    type: AccountType
    user_id: str | None = None


class DimensionKey(NamedTuple):
    """What usage was for, within a mandate."""

    mandate_no: int
    provider: str | None
    model: str | None
    feature_code: str | None
    feature_instance_id: str | None


class UsageDimensions(NamedTuple):
    """What usage is booked under: mandate, member, and what it was for. The charge keys are the numbers of these."""

    mandate_id: str
    user_id: str
    provider: str | None
    model: str | None
    feature_code: str | None
    feature_instance_id: str | None


@dataclass(frozen=True, slots=True)
class ChargeKeys:
    """The numbers that a usage event is booked under: mandate, the accounts that may pay, and what it was for."""

    mandate_no: int
    member_account_no: int
    pool_account_no: int
    internal_account_no: int
    dimension_no: int

    def posted_account_no(self, model: BillingModel) -> int:
        """The account that usage is posted to under a billing model."""
        kind = charged_account_type(model)
        if kind == "USER":
            return self.member_account_no
        return self.pool_account_no if kind == "MANDATE" else self.internal_account_no


class ChargeKeyCache:
    """The charge keys that this worker has seen."""

    def __init__(self) -> None:
        self._charge_keys: dict[tuple[str | None, ...], ChargeKeys] = {}
        self._characters = 0

    def get(self, name: tuple[str | None, ...]) -> ChargeKeys | None:
        """The charge keys, if this worker has seen them."""
        return self._charge_keys.get(name)

    def remember(self, found: Iterable[tuple[UsageDimensions, ChargeKeys]]) -> None:
        """Keeps keys that are committed. When it is full, the older half goes; what is in use is read again."""
        for name, keys in found:
            if name not in self._charge_keys:
                self._characters += _characters(name)
            self._charge_keys[name] = keys
            if len(self._charge_keys) > CHARGE_KEYS_MAX or self._characters > CHARGE_KEYS_CHARACTERS_MAX:
                self._forget_half()

    def _forget_half(self) -> None:
        for name in list(self._charge_keys)[: len(self._charge_keys) // 2]:
            del self._charge_keys[name]
            self._characters -= _characters(name)


def _characters(name: Iterable[str | None]) -> int:
    return sum(len(each) for each in name if each is not None)


def _each_way(select: str, found: str, nullable: Sequence[str]) -> str:
    """The statement that finds a row of what is `given`, apart for what is null of it: no index serves IS NOT DISTINCT
    FROM, so each of a batch would be compared with every row of its mandate. OFFSET 0 keeps it a look-up of each,
    whatever the statistics."""
    arms = []
    for nulls in product((False, True), repeat=len(nullable)):
        columns = list(zip(nullable, nulls, strict=True))
        same = [f"{name} IS NULL" if is_null else f"{name} = given.{name}" for name, is_null in columns]
        these = [f"given.{name} IS {'NULL' if is_null else 'NOT NULL'}" for name, is_null in columns]
        arms.append(
            f"{select} CROSS JOIN LATERAL ({' AND '.join([found, *same])} OFFSET 0) AS found"
            f" WHERE {' AND '.join(these)}"
        )
    return " UNION ALL ".join(arms)


_FOUND_CHARGE_KEYS: Final = (
    "WITH given AS MATERIALIZED (SELECT named.*, m.no AS mandate_no, own.no AS own_no, pool.no AS pool_no,"
    " internal.no AS internal_no"
    " FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) WITH ORDINALITY"
    " AS named (mandate_id, user_id, provider, model, feature_code, feature_instance_id, number)"
    " JOIN mandates m ON m.id = named.mandate_id"
    " CROSS JOIN LATERAL (SELECT no FROM accounts WHERE mandate_no = m.no AND type = 'USER'"
    " AND user_id = named.user_id OFFSET 0) AS own"
    " CROSS JOIN LATERAL (SELECT no FROM accounts WHERE mandate_no = m.no AND type = 'MANDATE'"
    " AND user_id IS NULL OFFSET 0) AS pool"
    " CROSS JOIN LATERAL (SELECT no FROM accounts WHERE mandate_no = m.no AND type = 'INTERNAL'"
    " AND user_id IS NULL OFFSET 0) AS internal) "
) + _each_way(
    "SELECT given.number, given.mandate_no, own_no, pool_no, internal_no, found.no FROM given",
    "SELECT no FROM dimensions WHERE mandate_no = given.mandate_no AND provider = given.provider"
    " AND model = given.model",
    ("feature_code", "feature_instance_id"),
)
_FOUND_ACCOUNTS: Final = (
    "WITH given AS MATERIALIZED (SELECT * FROM unnest($1::int[], $2::text[], $3::text[])"
    " AS given (mandate_no, type, user_id)) "
) + _each_way(
    "SELECT given.*, found.no FROM given",
    "SELECT no FROM accounts WHERE mandate_no = given.mandate_no AND type = given.type",
    ("user_id",),
)
_GIVEN_DIMENSIONS: Final = (
    "unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[])"
    " AS given (mandate_no, provider, model, feature_code, feature_instance_id)"
)
_FOUND_DIMENSIONS: Final = f"WITH given AS MATERIALIZED (SELECT * FROM {_GIVEN_DIMENSIONS}) " + _each_way(
    "SELECT given.*, found.no FROM given",
    "SELECT no FROM dimensions WHERE mandate_no = given.mandate_no",
    ("provider", "model", "feature_code", "feature_instance_id"),
)


async def find_charge_keys(
    connection: AsyncConnection, names: Collection[UsageDimensions]
) -> dict[UsageDimensions, ChargeKeys]:
    """The charge keys of those names that have all of them, in one statement without a lock. A worker that has just
    started knows none of the names that are in use; what names no provider or model is left to `ensure_charge_keys`."""
    asked = [name for name in names if name.provider is not None and name.model is not None]
    if not asked:
        return {}
    columns = [list(column) for column in zip(*asked, strict=True)]
    rows = await driver_connection(connection).fetch(_FOUND_CHARGE_KEYS, *columns)
    return {asked[number - 1]: ChargeKeys(*numbers) for number, *numbers in rows}


async def ensure_charge_keys(
    connection: AsyncConnection, names: Sequence[UsageDimensions], mandates: Mapping[str, int]
) -> dict[UsageDimensions, ChargeKeys]:
    """Finds or makes the charge keys, in the caller's transaction, which has locked their mandates."""
    own: tuple[AccountType, ...] = ("MANDATE", "INTERNAL")
    accounts = await ensure_accounts(
        connection,
        [
            *(AccountKey(no, kind) for no in mandates.values() for kind in own),
            *(AccountKey(mandates[name.mandate_id], "USER", name.user_id) for name in names),
        ],
    )
    keys = {name: DimensionKey(mandates[name.mandate_id], *name[2:]) for name in names}
    dimensions = await ensure_dimensions(connection, list(keys.values()))
    charge_keys = {}
    for name, key in keys.items():
        no = key.mandate_no
        member = accounts[AccountKey(no, "USER", name.user_id)]
        pool, internal = accounts[AccountKey(no, "MANDATE")], accounts[AccountKey(no, "INTERNAL")]
        charge_keys[name] = ChargeKeys(no, member, pool, internal, dimensions[key])
    return charge_keys


async def ensure_mandates(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, int]:
    """The numbers of mandates; those that are new get the default settings."""
    driver = driver_connection(connection)
    ordered = sorted(set(ids))
    await driver.execute(
        "INSERT INTO mandates (id) SELECT id FROM unnest($1::text[]) AS given (id)"
        " WHERE NOT EXISTS (SELECT 1 FROM mandates m WHERE m.id = given.id) ON CONFLICT (id) DO NOTHING",
        ordered,
    )
    rows = await driver.fetch("SELECT id, no FROM mandates WHERE id = ANY($1)", ordered)
    return {row["id"]: row["no"] for row in rows}


async def ensure_accounts(connection: AsyncConnection, keys: Sequence[AccountKey]) -> dict[AccountKey, int]:
    """The numbers of accounts; those that are new begin with nothing."""
    driver = driver_connection(connection)
    ordered = sorted(set(keys), key=lambda key: (key.mandate_no, key.type, key.user_id or ""))
    columns = [list(column) for column in zip(*ordered, strict=True)]
    rows = await driver.fetch(_FOUND_ACCOUNTS, *columns)
    if len(rows) < len(ordered):
        await driver.execute(
            "INSERT INTO accounts (mandate_no, type, user_id) SELECT * FROM unnest($1::int[], $2::text[], $3::text[])"
            " ON CONFLICT DO NOTHING",
            *columns,
        )
        rows = await driver.fetch(_FOUND_ACCOUNTS, *columns)
    return {AccountKey(row["mandate_no"], row["type"], row["user_id"]): row["no"] for row in rows}


async def ensure_dimensions(connection: AsyncConnection, keys: Sequence[DimensionKey]) -> dict[DimensionKey, int]:
    """The numbers of dimensions; those that are new are made."""
    driver = driver_connection(connection)
    ordered = sorted(set(keys), key=lambda key: tuple(str(part or "") for part in key))
    columns = [list(column) for column in zip(*ordered, strict=True)]
    rows = await driver.fetch(_FOUND_DIMENSIONS, *columns)
    if len(rows) < len(ordered):
        await driver.execute(
            "INSERT INTO dimensions (mandate_no, provider, model, feature_code, feature_instance_id)"
            f" SELECT * FROM {_GIVEN_DIMENSIONS} ON CONFLICT DO NOTHING",
            *columns,
        )
        rows = await driver.fetch(_FOUND_DIMENSIONS, *columns)
    return {DimensionKey(*tuple(row)[:5]): row["no"] for row in rows}
