"""A re-rating comes to what charging with the new prices would have come to, to the last digit.

The charges of one mandate are corrected from prices to others, those of its twin are made by the last ones from the
beginning: balance and remainder together are the same exact sum, and so are the statistics but for half a micro-franc
of each account and correction.
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from deploy.postgres.bootstrap import SERVICES, RolePasswords, bootstrap, database_dsn
from services.billing.audit import audit
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.mandates.switch_model import switch_model
from services.billing.pricing import PriceList, PriceVersion, version_to_text
from services.billing.pricing.import_prices import set_rate
from services.billing.pricing.repository import add_versions, lock_revision, raise_revision
from services.chassis.caller import Caller
from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.migrations import migrate
from tests.support.charging import charge
from tests.support.databases import on_driver
from tests.support.directory import directory_events
from tests.support.events import usage_record
from tests.support.invoicing import SPANS
from tests.support.rerating import FROM, of_model, rerate
from tests.support.stack import make_postgres

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
FOLDER = Path(__file__).resolve().parents[2] / "services" / "billing" / "migrations"
ADMIN = Caller(user_id="system-admin", system_admin=True)

prices = st.decimals(0, 1, places=12) | st.decimals(0, Decimal("0.000001"), places=24) | st.just(Decimal(0))
rates = st.decimals(Decimal("0.0001"), 10, places=9)
usages = st.tuples(st.sampled_from(["user-1", "user-2"]), st.integers(1, 5_000), st.integers(0, 3))


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def database(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """An empty ledger on a PostgreSQL of its own."""
    passwords = {name: RolePasswords(uuid4().hex, uuid4().hex) for name in SERVICES}
    with make_postgres(tmp_path_factory.mktemp("server") / "postgres") as server:
        runner.run(bootstrap(server.admin_dsn, passwords))
        owner_dsn = database_dsn(server.admin_dsn, "billing_owner", passwords["billing"].owner)
        migrate(owner_dsn, schema="billing", folder=FOLDER)
        made = Database(database_dsn(server.admin_dsn, "billing_app", passwords["billing"].app), pool_size=2)
        runner.run(made.start())
        yield made
        runner.run(made.stop())


async def _price(database: Database, model: str, currency: str, unit_prices: list[Decimal], rate: Decimal) -> None:
    components = dict(zip(("input", "output", "images"), unit_prices, strict=True))
    version = PriceVersion("anthropic", model, currency, FROM, (PriceList(components),))
    async with database.transaction() as connection:
        await lock_revision(connection)
        await add_versions(connection, [(version, version_to_text(version))], None)
        await raise_revision(connection)
        if currency != "CHF":
            await set_rate(connection, currency=currency, rate=rate, valid_from=FROM, actor="test")


async def _exact(database: Database, mandate: str) -> tuple[list[Decimal], Decimal, int]:
    """The exact sums of the accounts that usage is charged to, in the order of members, but for those of nothing; cost
    and count as statistics have them."""
    async with on_driver(database) as connection:
        accounts = await connection.fetch(
            "SELECT a.balance, a.rounding_remainder FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
            " WHERE m.id = $1 AND a.type IN ('MANDATE', 'USER', 'INTERNAL') ORDER BY a.type, a.user_id",
            mandate,
        )
        (rollup,) = await connection.fetch(
            "SELECT coalesce(sum(r.cost), 0) AS cost, coalesce(sum(r.count), 0) AS count FROM rollups r"
            " JOIN mandates m ON m.no = r.mandate_no WHERE m.id = $1",
            mandate,
        )
    with localcontext(prec=60):
        sums = [Decimal(row["balance"]).scaleb(-6) - row["rounding_remainder"] for row in accounts]
    return [each for each in sums if each], Decimal(rollup["cost"]).scaleb(-6), rollup["count"]


async def _same_as_charging(database: Database, data: dict[str, Any]) -> None:
    model, twins = f"model-{uuid4()}", [f"{name}-{uuid4()}" for name in ("corrected", "charged")]
    # A currency of its own for each kind of example, whose rate changes with the price.
    currency, versions = data["currency"], data["versions"]
    apply = ApplyDirectory(database, clock=system_clock)
    for mandate in twins:
        await apply(directory_events(mandate, {"user-1": ["member"], "user-2": ["member"]}), [])
        if data["model"] != "PREPAY_MANDATE":
            async with database.transaction() as connection, on_driver(database) as driver:
                number = await driver.fetchval("SELECT no FROM mandates WHERE id = $1", mandate)
                await switch_model(connection, number, data["model"], spans=SPANS, caller=ADMIN, now=system_clock())
    records = {
        mandate: [
            usage_record(
                mandate,
                user,
                cost=None,
                model=model,
                tokens={"input": count, "output": count // 3},
                quantities={"images": str(images)},
                at=AT,
            )
            for user, count, images in data["usages"]
        ]
        for mandate in twins
    }
    # What is free when it comes has no row, so the first price is none of those.
    await _price(database, model, currency, [Decimal(1), Decimal(2), Decimal("0.5")], Decimal(1))
    await charge(database, *records[twins[0]])
    for unit_prices, rate in versions:
        await _price(database, model, currency, unit_prices, rate)
        await rerate(database, of_model(model))
    await charge(database, *records[twins[1]])
    (corrected, cost, count), (charged, twin_cost, twin_count) = [await _exact(database, twin) for twin in twins]
    assert corrected == charged
    assert abs(cost - twin_cost) <= Decimal("0.000002")
    # Each charge stays one, also where it costs nothing by now; usage that is free when it comes has no row.
    assert count == len(data["usages"]) >= twin_count


@given(
    st.fixed_dictionaries(
        {
            "model": st.sampled_from(["PREPAY_MANDATE", "PREPAY_USER", "UNLIMITED"]),
            "currency": st.sampled_from(["CHF", "USD"]),
            "usages": st.lists(usages, min_size=1, max_size=20),
            "versions": st.lists(st.tuples(st.lists(prices, min_size=3, max_size=3), rates), min_size=1, max_size=3),
        }
    )
)
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_corrected_prices_add_up_to_what_charging_with_them_would_have(
    runner: asyncio.Runner, database: Database, data: dict[str, Any]
) -> None:
    runner.run(_same_as_charging(database, data))


def test_the_books_are_in_order_after_all_of_them(runner: asyncio.Runner, database: Database) -> None:
    async def failing() -> dict[str, Any]:
        async with on_driver(database) as connection:
            return {check.name: check.failing for check in await audit(connection) if check.failing_count}

    assert runner.run(failing()) == {}
