"""The audit names charges by a price or rate that never held at their time, and no others."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest

from services.billing.audit import audit
from services.billing.pricing import PriceList, PriceVersion, version_to_text
from services.billing.pricing.import_prices import set_rate
from services.billing.pricing.repository import add_versions, lock_revision, raise_revision
from services.chassis.database import Database
from tests.integration.billing.test_broken_rows import BROKEN_RATES, BROKEN_VERSIONS
from tests.support.charging import charge
from tests.support.databases import on_driver, unseen
from tests.support.events import new_mandate, usage_record
from tests.support.stack import ServerPair

DAY = datetime(2026, 5, 4, 10, tzinfo=UTC)
CURRENCY = "UYU"


@pytest.fixture
async def admin(servers: ServerPair) -> AsyncIterator[asyncpg.Connection]:
    """The database's owner, in a transaction that nobody else ever sees."""
    async with unseen(servers.admin_dsn, schema="billing") as connection:
        yield connection


async def _add(database: Database, model: str, days: int, price: str) -> None:
    """A price of a model and a rate, both from `days` after the usage on."""
    since = DAY + timedelta(days=days)
    version = PriceVersion("acme", model, CURRENCY, since, (PriceList({"input": Decimal(price)}),))
    async with database.transaction() as connection:
        await lock_revision(connection)
        await add_versions(connection, [(version, version_to_text(version))], None)
        await raise_revision(connection)
        await set_rate(connection, currency=CURRENCY, rate=Decimal(price), valid_from=since, actor="operator")


async def _use(database: Database, mandate: str, model: str) -> None:
    await charge(database, usage_record(mandate, cost=None, provider="acme", model=model, tokens={"input": 3}, at=DAY))


async def _failing(admin: asyncpg.Connection, mandate: str) -> list[str | None]:
    return [
        entry["detail"]
        for check in await audit(admin)
        for entry in check.failing
        if check.name in ("prices", "remainder") and entry["mandateId"] == mandate
    ]


async def _rename(admin: asyncpg.Connection, mandate: str, said: str, says: str) -> None:
    await admin.execute(
        "UPDATE transactions t SET derivation = replace(derivation, $1, $2) FROM mandates m"
        " WHERE m.no = t.mandate_no AND m.id = $3",
        said,
        says,
        mandate,
    )


async def test_a_charge_by_a_price_or_rate_that_never_held_then_is_named(
    admin: asyncpg.Connection, database: Database
) -> None:
    mandate = model = new_mandate()
    # One in force, one that ended before that was so, one of later. All cost the same, so only times tell.
    for days in (-1, -9, 2):
        await _add(database, model, days, "0.5")
    await _use(database, mandate, model)
    async with on_driver(database) as connection:
        prices = await connection.fetch("SELECT id FROM prices WHERE model = $1 ORDER BY id", model)
        rates = await connection.fetch("SELECT id FROM rates WHERE currency = $1 ORDER BY id DESC LIMIT 3", CURRENCY)
    assert await _failing(admin, mandate) == []
    for name, rows in (("price", [row[0] for row in prices]), ("rate", sorted(row[0] for row in rates))):
        for number in rows[1:]:
            await _rename(admin, mandate, f'"{name}":"{rows[0]}"', f'"{name}":"{number}"')
            (detail,) = await _failing(admin, mandate)
            assert detail is not None
            assert f"{name} {number} was not in force at 2026-05-04" in detail
            await _rename(admin, mandate, f'"{name}":"{number}"', f'"{name}":"{rows[0]}"')


async def test_charges_by_what_held_when_they_were_recorded_are_right(
    admin: asyncpg.Connection, database: Database
) -> None:
    mandate = model = new_mandate()
    await _add(database, model, -9, "0.5")
    await _use(database, mandate, model)
    # A later one, one from between, a correction of the first, and again one of before, each used at once.
    for days, price in ((-1, "0.6"), (-5, "0.7"), (-1, "0.8"), (-9, "0.9")):
        await _add(database, model, days, price)
        await _use(database, mandate, model)
    # What a migration sets aside has priced what it has priced, and holds nothing up.
    await admin.execute("UPDATE prices SET set_aside = 'for tests' WHERE model = $1", model)
    await admin.execute("UPDATE rates SET set_aside = 'for tests' WHERE currency = $1", CURRENCY)
    assert await _failing(admin, mandate) == []


async def test_what_was_recorded_first_is_told_by_its_number_not_by_its_text(
    admin: asyncpg.Connection, database: Database
) -> None:
    """A charge by the last number of so many digits, and after it one of more digits, which begins with a 1."""
    mandate = model = new_mandate()
    await _add(database, model, -9, "0.5")
    await _use(database, mandate, model)
    async with on_driver(database) as connection:
        price = await connection.fetchval("SELECT id FROM prices WHERE model = $1", model)
        rate = await connection.fetchval("SELECT max(id) FROM rates WHERE currency = $1", CURRENCY)
    for number, days in ((99_999_999, -9), (100_000_000, -1)):
        since = DAY + timedelta(days=days)
        version = PriceVersion("acme", model, CURRENCY, since, (PriceList({"input": Decimal("0.5")}),))
        await admin.execute(
            "INSERT INTO prices (id, provider, model, valid_from, version) OVERRIDING SYSTEM VALUE"
            " VALUES ($1, 'acme', $2, $3, $4)",
            number,
            model,
            since,
            version_to_text(version),
        )
        await admin.execute(
            "INSERT INTO rates (id, currency, valid_from, rate) OVERRIDING SYSTEM VALUE"
            " SELECT $1, currency, $2, rate FROM rates WHERE id = $3",
            number,
            since,
            rate,
        )
    for name, kept in (("price", price), ("rate", rate)):
        await _rename(admin, mandate, f'"{name}":"{kept}"', f'"{name}":"99999999"')
        assert await _failing(admin, mandate) == []


async def test_prices_and_rates_that_nobody_can_read_stop_no_audit(
    admin: asyncpg.Connection, database: Database
) -> None:
    mandate = model = new_mandate()
    await _add(database, model, -9, "0.5")
    await _use(database, mandate, model)
    for text in BROKEN_VERSIONS:
        await admin.execute(
            "INSERT INTO prices (provider, model, valid_from, version) VALUES ('acme', $1, now(), $2)", model, text
        )
    for _, valid_from, rate in BROKEN_RATES:
        await admin.execute(
            "INSERT INTO rates (currency, valid_from, rate) VALUES ($1, $2::text::timestamptz, $3::text::numeric)",
            CURRENCY,
            valid_from,
            rate,
        )
    assert await _failing(admin, mandate) == []
