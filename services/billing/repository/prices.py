"""The price book and the rate table as they are stored."""

import asyncpg

from services.billing.domain.charging import Tariff
from services.billing.domain.prices import PriceBook, Rate, RateTable, version_from_text

__all__ = ["Tariffs"]


class Tariffs:
    """The newest tariff this process has read; reading it again costs nothing while the revision stands."""

    def __init__(self) -> None:
        self._tariff: Tariff | None = None

    async def at(self, connection: asyncpg.Connection, revision: int) -> Tariff:
        """The tariff of that revision or a newer one."""
        if self._tariff is None or self._tariff.revision < revision:
            self._tariff = await _read(connection)
        return self._tariff


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
