"""The price book and the rate table as they are stored."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import asyncpg

from services.billing.pricing import (
    EARLIEST,
    LATEST,
    OUT_OF_TIME,
    PriceBook,
    PriceError,
    PriceVersion,
    Rate,
    RateTable,
    checked_rate,
    version_from_text,
)
from services.billing.pricing.rating import Tariff
from services.billing.unusable import report_unusable

__all__ = [
    "READABLE_TIME",
    "StoredRate",
    "Tariffs",
    "add_rate",
    "add_versions",
    "current_tariff",
    "raise_revision",
    "read_rates",
    "stored_version",
]

# A time that the driver can read, null for one outside the bounds of prices and rates.
READABLE_TIME = (
    f"CASE WHEN {{0}} >= '{EARLIEST.isoformat()}' AND {{0}} < '{LATEST.isoformat()}' THEN {{0}} END AS {{0}}"
)
# Longer than the text of any usable rate, so a truncated text is always one that cannot be used.
_RATE_TEXT_MAX = 64
_WHY_MAX = 300


class StoredRate(NamedTuple):
    """A row of the rates: the rate, or why it cannot be used; `said` is rate and time as the database writes them."""

    id: int
    currency: str
    rate: Rate | None
    why: str | None
    said: tuple[str, str]
    created_at: datetime | None
    created_by: str | None


class Tariffs:
    """The newest tariff this process has read; reading it again costs nothing while the revision stands."""

    def __init__(self) -> None:
        self._tariff: Tariff | None = None

    def known(self, revision: int) -> Tariff | None:
        """The tariff of that revision or a newer one, if this process has read it."""
        return self._tariff if self._tariff is not None and self._tariff.revision >= revision else None

    async def at(self, connection: asyncpg.Connection, revision: int) -> Tariff:
        """The tariff of that revision or a newer one."""
        tariff = self.known(revision)
        if tariff is None:
            tariff = self._tariff = await _read(connection)
        return tariff


async def current_tariff(connection: asyncpg.Connection, tariffs: Tariffs) -> Tariff:
    """The tariff at the present revision."""
    return await tariffs.at(connection, await connection.fetchval("SELECT revision FROM price_book"))


async def _read(connection: asyncpg.Connection) -> Tariff:
    """Every price and rate that can be used; a row that cannot is reported, and stops only usage of its own model."""
    # The revision first: what is added meanwhile is read too, and read again when the revision is seen to have grown.
    revision = await connection.fetchval("SELECT revision FROM price_book")
    versions: list[PriceVersion] = []
    for row in await connection.fetch("SELECT id, version, set_aside FROM prices ORDER BY id"):
        version, why = stored_version(row)
        if version is None:
            report_unusable("prices", str(row["id"]), why)
        else:
            versions.append(version)
    rates: list[Rate] = []
    for stored in await read_rates(connection):
        if stored.rate is None:
            report_unusable("rates", str(stored.id), stored.why or "")
        else:
            rates.append(stored.rate)
    return Tariff(revision, PriceBook(versions), RateTable(rates))


def stored_version(row: Mapping[Any, Any]) -> tuple[PriceVersion | None, str]:
    """The version of a row of the prices (id, version, set_aside), or none and why it cannot be used."""
    if row["set_aside"] is not None:
        return None, row["set_aside"]
    try:
        return version_from_text(row["version"], str(row["id"])), ""
    except PriceError as error:
        return None, str(error)[:_WHY_MAX]
    except Exception as error:  # noqa: BLE001 - whatever one row holds, the prices of all others must still be found.
        return None, type(error).__name__


async def read_rates(connection: asyncpg.Connection) -> list[StoredRate]:
    """Every rate in the order in which they were recorded."""
    rows = await connection.fetch(
        f"SELECT id, currency, left(rate::text, {_RATE_TEXT_MAX}) AS said_rate, valid_from::text AS said_from,"
        f" {READABLE_TIME.format('valid_from')}, {READABLE_TIME.format('created_at')}, created_by_user_id, set_aside"
        " FROM rates ORDER BY id"
    )
    return [_stored_rate(row) for row in rows]


def _stored_rate(row: asyncpg.Record) -> StoredRate:
    rate, why = None, row["set_aside"]
    if why is None and row["valid_from"] is None:
        why = f"valid_from: {OUT_OF_TIME}"
    if why is None:
        try:
            # Read from its text, because the driver gives 100 as 1E+2.
            rate = checked_rate(Rate(row["currency"], row["valid_from"], Decimal(row["said_rate"]), str(row["id"])))
        except PriceError as error:
            why = str(error)
    said = (row["said_rate"], row["said_from"])
    return StoredRate(row["id"], row["currency"], rate, why, said, row["created_at"], row["created_by_user_id"])


async def add_versions(
    connection: asyncpg.Connection, versions: Sequence[tuple[PriceVersion, str]], actor: str | None
) -> None:
    """Adds price versions, each with its text."""
    await connection.executemany(
        "INSERT INTO prices (provider, model, valid_from, version, created_by_user_id) VALUES ($1, $2, $3, $4, $5)",
        [(version.provider, version.model, version.valid_from, text, actor) for version, text in versions],
    )


async def add_rate(
    connection: asyncpg.Connection, *, currency: str, rate: Decimal, valid_from: datetime, actor: str
) -> int:
    """Adds the CHF for one unit of a currency, from a time on; returns the row's number."""
    number: int = await connection.fetchval(
        "INSERT INTO rates (currency, valid_from, rate, created_by_user_id) VALUES ($1, $2, $3, $4) RETURNING id",
        currency,
        valid_from,
        rate,
        actor,
    )
    return number


async def raise_revision(connection: asyncpg.Connection) -> None:
    """Raises the revision of the price book, by which every worker sees with its next batch that it has changed."""
    await connection.execute("UPDATE price_book SET revision = revision + 1")
