"""Narrow keys: the numbers that stand for mandates, accounts and dimensions inside the ledger.

A number never changes once it is given, so workers keep what they have seen. What is missing is made in a small
transaction of its own before the charge; a number that nothing uses does no harm.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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


async def find_charge_keys(
    connection: AsyncConnection, names: Collection[UsageDimensions]
) -> dict[UsageDimensions, ChargeKeys]:
    """The charge keys of those names that have all of them, in one statement without a lock. A worker that has just
    started knows none of the names that are in use; what names no provider or model is left to `ensure_charge_keys`."""
    asked = [name for name in names if name.provider is not None and name.model is not None]
    if not asked:
        return {}
    rows = await driver_connection(connection).fetch(
        "SELECT given.number, m.no, own.no, pool.no, internal.no, d.no"
        " FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) WITH ORDINALITY"
        " AS given (mandate_id, user_id, provider, model, feature_code, feature_instance_id, number)"
        " JOIN mandates m ON m.id = given.mandate_id"
        " JOIN accounts own ON own.mandate_no = m.no AND own.type = 'USER' AND own.user_id = given.user_id"
        " JOIN accounts pool ON pool.mandate_no = m.no AND pool.type = 'MANDATE' AND pool.user_id IS NULL"
        " JOIN accounts internal ON internal.mandate_no = m.no AND internal.type = 'INTERNAL'"
        " AND internal.user_id IS NULL"
        " JOIN dimensions d ON d.mandate_no = m.no AND d.provider = given.provider AND d.model = given.model"
        " AND d.feature_code IS NOT DISTINCT FROM given.feature_code"
        " AND d.feature_instance_id IS NOT DISTINCT FROM given.feature_instance_id",
        *(list(column) for column in zip(*asked, strict=True)),
    )
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
    found = (
        "SELECT a.mandate_no, a.type, a.user_id, a.no FROM unnest($1::int[], $2::text[], $3::text[])"
        " AS given (mandate_no, type, user_id)"
        " JOIN accounts a ON a.mandate_no = given.mandate_no AND a.type = given.type"
        " AND a.user_id IS NOT DISTINCT FROM given.user_id"
    )
    rows = await driver.fetch(found, *columns)
    if len(rows) < len(ordered):
        await driver.execute(
            "INSERT INTO accounts (mandate_no, type, user_id) SELECT * FROM unnest($1::int[], $2::text[], $3::text[])"
            " ON CONFLICT DO NOTHING",
            *columns,
        )
        rows = await driver.fetch(found, *columns)
    return {AccountKey(row["mandate_no"], row["type"], row["user_id"]): row["no"] for row in rows}


async def ensure_dimensions(connection: AsyncConnection, keys: Sequence[DimensionKey]) -> dict[DimensionKey, int]:
    """The numbers of dimensions; those that are new are made."""
    driver = driver_connection(connection)
    ordered = sorted(set(keys), key=lambda key: tuple(str(part or "") for part in key))
    columns = [list(column) for column in zip(*ordered, strict=True)]
    given = (
        "unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[])"
        " AS given (mandate_no, provider, model, feature_code, feature_instance_id)"
    )
    found = (
        "SELECT d.mandate_no, d.provider, d.model, d.feature_code, d.feature_instance_id, d.no"
        f" FROM {given} JOIN dimensions d ON d.mandate_no = given.mandate_no"
        " AND d.provider IS NOT DISTINCT FROM given.provider AND d.model IS NOT DISTINCT FROM given.model"
        " AND d.feature_code IS NOT DISTINCT FROM given.feature_code"
        " AND d.feature_instance_id IS NOT DISTINCT FROM given.feature_instance_id"
    )
    rows = await driver.fetch(found, *columns)
    if len(rows) < len(ordered):
        await driver.execute(
            "INSERT INTO dimensions (mandate_no, provider, model, feature_code, feature_instance_id)"
            f" SELECT * FROM {given} ON CONFLICT DO NOTHING",
            *columns,
        )
        rows = await driver.fetch(found, *columns)
    return {DimensionKey(*tuple(row)[:5]): row["no"] for row in rows}
