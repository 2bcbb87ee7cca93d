"""The price book and the rate table as they are stored."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import asyncpg

from services.billing.domain.charging import Tariff
from services.billing.domain.prices import PriceBook, PriceVersion, Rate, RateTable, version_from_text

__all__ = ["Tariffs", "add_rate", "add_versions", "raise_revision"]


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


async def _read(connection: asyncpg.Connection) -> Tariff:
    # The revision first: what is added meanwhile is read too, and read again when the revision is seen to have grown.
    revision = await connection.fetchval("SELECT revision FROM price_book")
    versions = await connection.fetch("SELECT id, version FROM prices ORDER BY id")
    rates = await connection.fetch("SELECT id, currency, valid_from, rate FROM rates ORDER BY id")
    return Tariff(
        revision,
        PriceBook(version_from_text(row["version"], str(row["id"])) for row in versions),
        RateTable(Rate(row["currency"], row["valid_from"], row["rate"], str(row["id"])) for row in rates),
    )


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
) -> None:
    """Adds the CHF for one unit of a currency, from a time on."""
    await connection.execute(
        "INSERT INTO rates (currency, valid_from, rate, created_by_user_id) VALUES ($1, $2, $3, $4)",
        currency,
        valid_from,
        rate,
        actor,
    )


async def raise_revision(connection: asyncpg.Connection) -> None:
    """Tells every worker, by its next batch, that prices or rates have changed."""
    await connection.execute("UPDATE price_book SET revision = revision + 1")
