"""No single stored price, rate or setting stops the pricing of everything else: it is passed over, marked and told."""

import runpy
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from services.billing.pricing.repository import Tariffs, current_tariff
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import checker, system_admin
from tests.support.charging import charge
from tests.support.databases import connected, opened
from tests.support.events import usage_record
from tests.support.ledger import Books
from tests.support.stack import ROOT, ServerPair

RATES = "/api/billing/admin/rates"
PRICES = "/api/billing/admin/prices"
MIGRATION = ROOT / "services" / "billing" / "migrations" / "0005_unusable_prices.py"
GOOD_RATE = {"currency": "NOK", "rate": "0.08", "validFrom": "2026-01-01T00:00:00Z"}
BROKEN_RATES = [
    ("NOK", "infinity", "0.07"),
    ("NOK", "-infinity", "0.07"),
    ("NOK", "0001-01-01 00:00:00+00", "0.07"),
    ("NOK", "9999-12-31 23:59:59.999999+00", "0.07"),
    ("NOK", "20000-01-01 00:00:00+00", "0.07"),
    ("NOK", "4000-01-01 00:00:00+00 BC", "0.07"),
    ("NOK", "2026-02-01 00:00:00+00", "0"),
    ("NOK", "2026-02-01 00:00:00+00", "-1"),
    ("NOK", "2026-02-01 00:00:00+00", "NaN"),
    ("NOK", "2026-02-01 00:00:00+00", "Infinity"),
    ("NOK", "2026-02-01 00:00:00+00", "1e4000"),
    ("NOK", "2026-02-01 00:00:00+00", "1e-4000"),
    ("CHF", "2026-02-01 00:00:00+00", "2"),
]
VERSION = '{"provider":"acme","model":"m","currency":"CHF","valid_from":"2026-01-01T00:00:00Z","lists":%s}'
BROKEN_VERSIONS = [
    "",
    "not json",
    "[]",
    "null",
    "{}",
    "[" * 100_000,
    VERSION % "[]",
    VERSION % '[{"prices":{"input":1}}]',
    VERSION % '[{"prices":{"input":"-1"}}]',
    VERSION % '[{"prices":{"input":"NaN"}}]',
    VERSION % '[{"prices":{"input":"1e999999999"}}]',
    VERSION % '[{"prices":{"input":"1"},"colour":"red"}]',
    (VERSION % '[{"prices":{"input":"1"}}]').replace("2026-", "0001-"),
    (VERSION % '[{"prices":{"input":"1"}}]').replace("2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
]


@pytest.fixture(autouse=True)
async def _nothing_is_left(books: Books) -> AsyncIterator[None]:
    """What is put past the service is taken away again, because other tests list prices and rates. What the service
    has taken stays: charges name it."""
    last = [await books.value(f"SELECT coalesce(max(id), 0) FROM {table}") for table in ("prices", "rates")]
    yield
    for table, number in zip(("prices", "rates"), last, strict=True):
        await books.fetch(f"DELETE FROM {table} WHERE id > $1 AND created_by_user_id IS NULL", number)
    await books.fetch("UPDATE price_book SET revision = revision + 1")


@pytest.mark.parametrize("broken", BROKEN_RATES)
async def test_a_broken_rate_is_passed_over(
    api: BillingApi, mandate: str, books: Books, broken: tuple[str, str, str]
) -> None:
    currency = broken[0]
    assert (await api.call(system_admin(), "POST", RATES, json=GOOD_RATE)).status_code == 200
    await _store_rate(books, *broken)
    await books.fetch("UPDATE price_book SET revision = revision + 1")
    await _others_are_priced(api, mandate, books)
    items = (await api.call(system_admin(), "GET", RATES, params={"currency": currency})).json()["items"]
    (told,) = [item for item in items if item["unusable"]]
    assert (told["currency"], told["inForce"]) == (currency, False)
    if currency == "NOK":
        assert [item["rate"] for item in items if item["inForce"]] == ["0.08"]
    assert 'rappen_billing_unusable_rows{table="rates"}' in (await api.client.get("/metrics")).text


@pytest.mark.parametrize("text", BROKEN_VERSIONS)
async def test_a_broken_price_version_is_passed_over(api: BillingApi, mandate: str, books: Books, text: str) -> None:
    model = f"model-{uuid4()}"
    await api.call(system_admin(), "POST", RATES, json=GOOD_RATE)
    await books.fetch(
        "INSERT INTO prices (provider, model, valid_from, version) VALUES ('acme', $1, now(), $2)", model, text
    )
    await books.fetch("UPDATE price_book SET revision = revision + 1")
    await _others_are_priced(api, mandate, books)
    listed = (await api.call(system_admin(), "GET", PRICES, params={"provider": "acme", "model": model})).json()
    (item,) = listed["items"]
    assert item["unusable"]
    assert (item["model"], item["inForce"]) == (model, False)
    assert text.startswith(item["stored"])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("time_zone", "Mars/Olympus"),
        ("time_zone", ""),
        ("time_zone", "../etc/passwd"),
        ("time_zone", "Europe"),
        ("past_time_zones", '[["2090-01-01T00:00:00+00:00", "Mars/Olympus"]]'),
        ("past_time_zones", '[["2090-01-01T00:00:00", "UTC"], ["x"], 7, null]'),
        ("past_time_zones", '{"a": 1}'),
        ("past_time_zones", "1"),
        ("markup_percent", "NaN"),
        ("markup_percent", "Infinity"),
        ("markup_percent", "-Infinity"),
        ("markup_percent", "-1"),
        ("plan_markup_percent", "NaN"),
        ("plan_markup_percent", "1e300"),
    ],
)
async def test_a_broken_setting_stops_no_charge(
    api: BillingApi, mandate: str, books: Books, column: str, value: str
) -> None:
    await charge(api.database, usage_record(mandate, amount="1"))
    kind = await books.value(
        "SELECT udt_name FROM information_schema.columns WHERE table_schema = 'billing'"
        " AND table_name = 'mandates' AND column_name = $1",
        column,
    )
    await books.fetch(f"UPDATE mandates SET {column} = $2::text::{kind} WHERE id = $1", mandate, value)
    await api.call(system_admin(), "POST", RATES, json=GOOD_RATE)
    await _others_are_priced(api, mandate, books, before=1_500_000)
    credit = await api.call(system_admin(), "POST", f"/api/billing/admin/credit/{mandate}", json={"amount": 1})
    assert credit.status_code == 200
    assert await books.failing() == {}
    await books.fetch(f"UPDATE mandates SET {column} = DEFAULT WHERE id = $1", mandate)


async def test_a_zone_that_is_not_known_is_told_and_may_be_sent_back(
    api: BillingApi, mandate: str, books: Books
) -> None:
    path = f"/api/billing/admin/settings/{mandate}"
    assert (await api.call(system_admin(), "GET", path)).json()["timeZoneKnown"] is True
    await books.fetch("UPDATE mandates SET time_zone = 'Mars/Olympus' WHERE id = $1", mandate)
    settings = (await api.call(system_admin(), "GET", path)).json()
    assert (settings["timeZone"], settings["timeZoneKnown"]) == ("Mars/Olympus", False)
    assert (await api.call(system_admin(), "POST", path, json=settings)).status_code == 200
    changed = await api.call(system_admin(), "POST", path, json={"timeZone": "Asia/Tokyo"})
    assert changed.json()["timeZoneKnown"] is True
    past = await books.value("SELECT past_time_zones FROM mandates WHERE id = $1", mandate)
    assert "Europe/Zurich" in past, "the zone that did hold in place of the unknown one"


async def test_the_migration_sets_aside_what_was_stored_before(servers: ServerPair, books: Books) -> None:
    """Unmarked rows of an older version are marked by the migration alone, none is changed or lost."""
    await books.fetch("ALTER TABLE rates DROP COLUMN set_aside")
    await books.fetch("ALTER TABLE prices DROP COLUMN set_aside")
    for stored in [*BROKEN_RATES, ("NOK", "2026-01-01 00:00:00+00", "0.08")]:
        await _store_rate(books, *stored)
    await books.fetch(
        "INSERT INTO prices (provider, model, valid_from, version) VALUES ('acme', 'm', '-infinity', $1)",
        BROKEN_VERSIONS[-2],
    )
    before = await books.value("SELECT count(*) FROM rates")
    revision = await books.value("SELECT revision FROM price_book")
    async with connected(servers.dsn("billing", owner=True)) as owner:
        for statement in runpy.run_path(str(MIGRATION))["STATEMENTS"]:
            await owner.execute(statement)
    assert await books.value("SELECT count(*) FROM rates") == before
    # Almost nothing is more than zero.
    assert await books.value("SELECT count(*) FROM rates WHERE set_aside IS NOT NULL") == len(BROKEN_RATES) - 1
    assert await books.value("SELECT count(*) FROM prices WHERE set_aside IS NOT NULL") == 1
    assert await books.value("SELECT revision FROM price_book") == revision + 1
    async with opened(servers.dsn("billing"), pool_size=1) as database, database.reading() as connection:
        tariff = await current_tariff(connection, Tariffs())
    rate = tariff.rates.at("NOK", datetime(2026, 11, 1, tzinfo=UTC))
    assert rate is not None
    assert str(rate.rate) == "0.08"


async def _store_rate(books: Books, currency: str, valid_from: str, rate: str) -> None:
    await books.fetch(
        "INSERT INTO rates (currency, valid_from, rate) VALUES ($1, $2::text::timestamptz, $3::text::numeric)",
        currency,
        valid_from,
        rate,
    )


async def _others_are_priced(api: BillingApi, mandate: str, books: Books, *, before: int = 0) -> None:
    """A check with an estimate, and a charge, both in a currency that needs a rate."""
    body: dict[str, Any] = {
        "mandateId": mandate,
        "userId": "user-1",
        "estimate": {"cost": {"amount": "1", "currency": "NOK"}},
    }
    checked = await api.call(checker(), "POST", "/api/billing/check", json=body)
    assert (checked.status_code, checked.json().get("requiredAmount")) == (
        200,
        {"amount": "0.120000", "currency": "CHF"},
    ), checked.text
    await charge(api.database, usage_record(mandate, amount="1", currency="NOK"))
    assert await books.cost([mandate]) == before + 120_000
