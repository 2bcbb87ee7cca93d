"""Usage without a price or a rate waits, and is charged exactly once when what is missing is added."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from services.billing.pricing.import_prices import set_rate
from tests.support.databases import opened
from tests.support.events import new_mandate, publish, usage_record, uuid7
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess, run_command
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

LAST_YEAR = datetime.now(UTC) - timedelta(days=365)


async def test_an_unknown_model_waits_and_is_charged_once_when_its_price_comes(
    servers: ServerPair, bootstrap_servers: str, worker: ServiceProcess, books: Books, tmp_path: Path
) -> None:
    mandate, model = new_mandate(), f"model-{uuid4()}"
    records = [_unpriced(mandate, model, tokens={"input": 1000, "output": 10}) for _ in range(700)]
    await publish(bootstrap_servers, [*records, usage_record(mandate, amount="0.10"), *records[:100]])
    await eventually(lambda: _parked(books, mandate, 700), what="parked events")
    assert await books.charged([mandate]) == 1, "what waits must not hold up its neighbours"
    _add_price(servers, tmp_path, model, {"input": "0.000001", "output": "0.00001"})
    # While they are settled, all of them are delivered once more.
    await publish(bootstrap_servers, records)
    await books.wait_charged([mandate], 701)
    await eventually(lambda: _parked(books, mandate, 0), what="an empty parking place")
    assert await books.cost([mandate]) == 150_000 + 700 * 1650
    await publish(bootstrap_servers, [*records[:50], usage_record(mandate, amount="0.10")])
    await books.wait_charged([mandate], 702)
    assert len(await books.event_ids([mandate])) == 702
    assert await books.refused(mandate) == {}
    assert await books.failing() == {}


async def test_a_currency_without_a_rate_waits_and_is_charged_once_when_its_rate_comes(
    servers: ServerPair, bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    await publish(bootstrap_servers, [usage_record(mandate, amount="1.5", currency="ZAR") for _ in range(20)])
    await eventually(lambda: _parked(books, mandate, 20), what="parked events")
    async with opened(servers.dsn("billing"), pool_size=1) as database, database.transaction() as connection:
        await set_rate(connection, currency="ZAR", rate=Decimal("0.0472"), valid_from=LAST_YEAR, actor="system-admin")
    await books.wait_charged([mandate], 20)
    assert await books.cost([mandate]) == 20 * 106_200
    assert await books.parked([mandate]) == 0
    assert await books.failing() == {}


async def test_parked_usage_that_cannot_be_charged_waits_alone_and_holds_up_nobody(
    servers: ServerPair, bootstrap_servers: str, worker: ServiceProcess, books: Books, tmp_path: Path
) -> None:
    mandate, model = new_mandate(), f"model-{uuid4()}"
    good = [_unpriced(mandate, model, tokens={"input": 1}) for _ in range(60)]
    monstrous = [_unpriced(mandate, model, tokens={"input": 2**53 - 1}) for _ in range(2)]
    # The envelope that is kept with it brings the largest record over the limit of a record.
    largest = _unpriced(mandate, model, tokens={"input": 1}, metadata={"a": "x" * 261_600})
    assert 261_700 < len(largest.value or b"") <= 256 * 1024
    await publish(bootstrap_servers, [*good[:20], monstrous[0], *good[20:], largest, monstrous[1]])
    await eventually(lambda: _parked(books, mandate, 63), what="parked events")
    _add_price(servers, tmp_path, model, {"input": "1"})
    await books.wait_charged([mandate], 61)
    await eventually(lambda: _reasons(books, mandate, {"AMOUNT_TOO_LARGE": 2}), what="two that stay")
    assert worker.running
    assert await books.failing() == {}


def _unpriced(mandate: str, model: str, **data: Any) -> Any:
    return usage_record(mandate, event_id=uuid7(), cost=None, model=model, **data)


def _add_price(servers: ServerPair, folder: Path, model: str, prices: dict[str, str]) -> None:
    version = {
        "provider": "anthropic",
        "model": model,
        "currency": "CHF",
        "valid_from": LAST_YEAR.isoformat(),
        "lists": [{"prices": prices}],
    }
    file = folder / "prices.json"
    file.write_text(json.dumps({"format": "rappen.prices.v1", "prices": [version]}))
    done = run_command(servers, "billing", "prices", "import", str(file), "--apply")
    assert done.returncode == 0, done.stderr
    assert "1 new" in done.stdout


async def _parked(books: Books, mandate: str, count: int) -> bool:
    return await books.parked([mandate]) == count


async def _reasons(books: Books, mandate: str, wanted: dict[str, int]) -> bool:
    rows = await books.fetch(
        "SELECT e.reason, count(*) FROM unposted_events e JOIN mandates m ON m.no = e.mandate_no"
        " WHERE m.id = $1 GROUP BY 1",
        mandate,
    )
    return {row[0]: row[1] for row in rows} == wanted
