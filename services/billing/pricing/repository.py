"""The price book and the rate table as they are stored."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

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
from services.billing.tables import price_book, prices, rates
from services.billing.unusable import report_unusable
from services.chassis.database import driver_connection

__all__ = [
    "StoredRate",
    "Tariffs",
    "add_rate",
    "add_versions",
    "current_revision",
    "current_tariff",
    "keep_revision",
    "lock_revision",
    "raise_revision",
    "read_rates",
    "readable_time",
    "stored_version",
]

# Longer than the text of any usable rate, so a truncated text is always one that cannot be used.
_RATE_TEXT_MAX = 64
_WHY_MAX = 300
_REVISION = sa.select(price_book.c.revision)
# For the driver, because each charge reads it.
_READ_REVISION = "SELECT revision FROM price_book"


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

    async def at(self, connection: AsyncConnection, revision: int) -> Tariff:
        """The tariff of that revision or a newer one."""
        tariff = self.known(revision)
        if tariff is None:
            tariff = self._tariff = await _read(connection)
        return tariff


async def current_revision(connection: AsyncConnection) -> int:
    """The present revision of the price book."""
    revision: int = await driver_connection(connection).fetchval(_READ_REVISION)
    return revision


async def current_tariff(connection: AsyncConnection, tariffs: Tariffs) -> Tariff:
    """The tariff at the present revision."""
    return await tariffs.at(connection, await current_revision(connection))


async def lock_revision(connection: AsyncConnection) -> int:
    """The present revision, which nobody else raises until this transaction ends."""
    revision: int = (await connection.execute(_REVISION.with_for_update())).scalar_one()
    return revision


async def keep_revision(connection: AsyncConnection) -> None:
    """Nobody raises the revision until this transaction ends. Several may keep it at once, and who raises it waits for
    those before alone: a lock of its row would let others that follow each other closely keep it waiting for ever."""
    await connection.execute(sa.text(f"LOCK TABLE {price_book.name} IN SHARE MODE"))


async def _read(connection: AsyncConnection) -> Tariff:
    """Every price and rate that can be used; a row that cannot is reported, and stops only usage of its own model."""
    # The revision first: what is added meanwhile is read too, and read again when the revision is seen to have grown.
    revision = await current_revision(connection)
    read = sa.select(prices.c.id, prices.c.version, prices.c.set_aside).order_by(prices.c.id)
    versions: list[PriceVersion] = []
    for row in (await connection.execute(read)).mappings():
        version, why = stored_version(row)
        if version is None:
            report_unusable("prices", str(row["id"]), why)
        else:
            versions.append(version)
    usable: list[Rate] = []
    for stored in await read_rates(connection):
        if stored.rate is None:
            report_unusable("rates", str(stored.id), stored.why or "")
        else:
            usable.append(stored.rate)
    return Tariff(revision, PriceBook(versions), RateTable(usable))


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


def readable_time(column: sa.Column[Any]) -> sa.Label[Any]:
    """A time that the driver can read, null for an infinite one or one of a year that no date can say."""
    return sa.case((sa.and_(column >= EARLIEST, column < LATEST), column)).label(column.name)


async def read_rates(connection: AsyncConnection) -> list[StoredRate]:
    """Every rate in the order in which they were recorded."""
    read = sa.select(
        rates.c.id,
        rates.c.currency,
        sa.func.left(sa.cast(rates.c.rate, sa.Text), _RATE_TEXT_MAX).label("said_rate"),
        sa.cast(rates.c.valid_from, sa.Text).label("said_from"),
        readable_time(rates.c.valid_from),
        readable_time(rates.c.created_at),
        rates.c.created_by_user_id,
        rates.c.set_aside,
    ).order_by(rates.c.id)
    return [_stored_rate(row) for row in (await connection.execute(read)).mappings()]


def _stored_rate(row: sa.RowMapping) -> StoredRate:
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
    connection: AsyncConnection, versions: Sequence[tuple[PriceVersion, str]], actor: str | None
) -> None:
    """Adds price versions, each with its text; at least one."""
    rows = [
        {
            "provider": version.provider,
            "model": version.model,
            "valid_from": version.valid_from,
            "version": text,
            "created_by_user_id": actor,
        }
        for version, text in versions
    ]
    await connection.execute(sa.insert(prices), rows)


async def add_rate(
    connection: AsyncConnection, *, currency: str, rate: Decimal, valid_from: datetime, actor: str
) -> int:
    """Adds the CHF for one unit of a currency, from a time on; returns the row's number."""
    added = sa.insert(rates).values(currency=currency, valid_from=valid_from, rate=rate, created_by_user_id=actor)
    number: int = (await connection.execute(added.returning(rates.c.id))).scalar_one()
    return number


async def raise_revision(connection: AsyncConnection) -> None:
    """Raises the revision of the price book, by which every worker sees with its next batch that it has changed."""
    await connection.execute(sa.update(price_book).values(revision=price_book.c.revision + 1))
