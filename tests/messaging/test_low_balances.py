"""Usage on Kafka drives a balance under its threshold: one warning, one recharge, and its payment, through a real
worker."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import orjson
import pytest

from rappen_contracts import encode
from rappen_contracts.payment.v1 import PaymentFailed, PaymentSucceeded
from rappen_contracts.registry import PAYMENT_FAILED_V1, PAYMENT_SUCCEEDED_V1, EventVersion
from rappen_contracts.types import Contract
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.support.events import RawRecord, publish, usage_record
from tests.support.facts import money
from tests.support.ledger import Books
from tests.support.processes import SHORT_SESSION, ServiceProcess
from tests.support.recharging import Recharged
from tests.support.stack import ServerPair
from tests.support.topics import read_topic
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
async def hasty(servers: ServerPair, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServiceProcess]:
    """A worker that has a mail sent with every crossing."""
    log = tmp_path_factory.mktemp("log") / "hasty.log"
    more = {**SHORT_SESSION, "BILLING_WARNING_MAIL_INTERVAL_S": "0"}
    async with ServiceProcess(servers, "billing", "worker", log, more=more) as process:
        yield process


async def _mandate(database: Database) -> Recharged:
    mandate = Recharged(database, system_clock())
    await mandate.begin()
    await mandate.credit(10)
    return mandate


async def _told(bootstrap_servers: str, topic: str, mandate: str, count: int) -> list[dict[str, object]]:
    return [
        orjson.loads(record.value) for record in await read_topic(bootstrap_servers, topic, key=mandate, count=count)
    ]


async def _say(bootstrap_servers: str, version: EventVersion, data: Contract, mandate: str) -> None:
    now = datetime.now(UTC)
    record = encode(data, type=version.type, id=uuid4(), source="/tests", time=now, key=mandate)
    await publish(bootstrap_servers, [RawRecord(record.value, [*record.headers], record.key)], version.name)


async def test_many_events_are_one_warning_and_one_recharge_which_fails_and_is_paid(
    bootstrap_servers: str, hasty: ServiceProcess, database: Database, books: Books
) -> None:
    mandate = await _mandate(database)
    await mandate.recharging()
    await publish(bootstrap_servers, [usage_record(mandate.id, amount="0.25") for _ in range(40)])
    await books.wait_charged([mandate.id], 40)
    (low,) = await _told(bootstrap_servers, "balance.low", mandate.id, 1)
    (told,) = await _told(bootstrap_servers, "recharge.requested", mandate.id, 1)
    assert (low["crossing"], low["mail"], told["amount"]) == (1, True, {"amount": "10.000000", "currency": "CHF"})
    recharge = UUID(str(told["recharge_id"]))
    common = {"mandate_id": mandate.id, "amount": money(10), "reason": "recharge", "recharge_id": recharge}
    now = datetime.now(UTC)
    failed = PaymentFailed(**common, outcome="declined", reference="pi_1", failed_at=now, cause="evt_1")
    await _say(bootstrap_servers, PAYMENT_FAILED_V1, failed, mandate.id)
    await _is(mandate, ["FAILED"])
    paid = PaymentSucceeded(**common, reference=f"pi_{recharge}", paid_at=now, cause="evt_2")
    for _ in range(2):
        await _say(bootstrap_servers, PAYMENT_SUCCEEDED_V1, paid, mandate.id)
    await _is(mandate, ["SUCCEEDED"])
    assert await books.pool(mandate.id) == 5_000_000
    await books.relayed()
    for topic in ("balance.low", "recharge.requested"):
        assert len(await _told(bootstrap_servers, topic, mandate.id, 1)) == 1
    assert await books.failing() == {}


async def test_how_often_a_mail_is_due_is_configured(
    bootstrap_servers: str, hasty: ServiceProcess, database: Database, books: Books
) -> None:
    mandate = await _mandate(database)
    for number in range(3):
        await publish(bootstrap_servers, [usage_record(mandate.id, amount="6.5")])
        await books.wait_charged([mandate.id], number + 1)
        await mandate.credit(Decimal("9.75"))
    told = await _told(bootstrap_servers, "balance.low", mandate.id, 3)
    assert [(each["crossing"], each["mail"]) for each in told] == [(1, True), (2, True), (3, True)]


async def _is(mandate: Recharged, states: list[str]) -> None:
    async def so() -> bool:
        return await mandate.states() == states

    await eventually(so, what=f"recharges that are {states}")
