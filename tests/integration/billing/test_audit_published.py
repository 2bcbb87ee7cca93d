"""The audit compares the books with the balances that were published, which nobody can put right in the database."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.billing.audit import PublishedBalance, audit, read_published
from services.billing.ledger.publications import UnpublishedBalances
from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.kafka import make_producer
from services.chassis.relay import Relay
from services.chassis.settings import KafkaSettings
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import system_admin
from tests.support.charging import charge
from tests.support.databases import unseen
from tests.support.events import new_mandate, usage_record
from tests.support.holding import Holding, chf
from tests.support.ledger import Books
from tests.support.parts import at_work
from tests.support.processes import run_command
from tests.support.stack import ServerPair
from tests.support.topics import read_topic


@pytest.fixture
async def kafka(servers: ServerPair, database: Database) -> AsyncIterator[KafkaSettings]:
    """The broker, with a relay at work."""
    settings = KafkaSettings(bootstrap_servers=servers.kafka.bootstrap_servers)
    relay = Relay(
        database,
        settings,
        client_id="relay",
        source="/tests",
        clock=system_clock,
        faults=FaultPoints(None),
        states=UnpublishedBalances(system_clock),
    )
    async with at_work(relay):
        yield settings


async def _audit(servers: ServerPair, *more: str, broker: str | None = None) -> tuple[int, Any]:
    """Exit code and answer of the command."""
    settings = {} if broker is None else {"BILLING_KAFKA__BOOTSTRAP_SERVERS": broker}
    ended = await asyncio.to_thread(run_command, servers, "billing", "audit", *more, more=settings)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, json.loads(ended.stdout) if "--json" in more else ended.stdout


async def test_what_is_held_is_published_with_a_version_of_its_own(
    api: BillingApi, books: Books, kafka: KafkaSettings, servers: ServerPair
) -> None:
    mandate = new_mandate()
    await api.directory(mandate, {"user-1": ["member"]})
    holding = Holding(api, books, mandate)
    settings = {"blockOnZeroBalance": False}
    await api.call(system_admin(), "POST", f"/api/billing/admin/settings/{mandate}", json=settings)
    # Before the account has any row, and so any balance.
    holds = [await holding.hold("1")]
    await books.relayed()
    await holding.credit(5)
    await books.relayed()
    holds.append(await holding.hold("2"))
    await books.relayed()
    assert (await holding.capture(holds[0], cost=chf("0.1"))).status_code == 200
    await books.relayed()
    assert (await holding.void(holds[1])).status_code == 200
    await books.relayed()
    (pool,) = await books.fetch(
        "SELECT a.no FROM accounts a JOIN mandates m ON m.no = a.mandate_no WHERE m.id = $1 AND a.type = 'MANDATE'",
        mandate,
    )
    records = await read_topic(kafka.bootstrap_servers, "balance.changed", key=f"{mandate}/{pool['no']}")
    changes = [json.loads(record.value) for record in records]
    told = [(each["version"], each["rows"], each["balance"]["amount"], each["held"]["amount"]) for each in changes]
    assert told == [
        (1, 0, "0.000000", "1.000000"),
        (2, 1, "5.000000", "1.000000"),
        (3, 1, "5.000000", "3.000000"),
        # A row, and one hold less.
        (5, 2, "4.850000", "2.000000"),
        (6, 2, "4.850000", "0.000000"),
    ]
    code, answer = await _audit(servers, "--json")
    assert (code, answer["ok"]) == (0, True)


async def test_a_last_row_that_is_gone_from_the_books_was_published(
    servers: ServerPair, database: Database, books: Books, kafka: KafkaSettings
) -> None:
    mandate = new_mandate()
    for amount in ("0.01", "0.02", "0.04"):
        await charge(database, usage_record(mandate, amount=amount))
        await books.relayed()
    (account_no,) = [
        row["no"]
        for row in await books.fetch(
            "SELECT a.no FROM accounts a JOIN mandates m ON m.no = a.mandate_no WHERE m.id = $1 AND a.type = 'MANDATE'",
            mandate,
        )
    ]
    # What cannot be read on the topic tells nothing.
    producer = make_producer(kafka, client_id="guest")
    await producer.start()
    await producer.send_and_wait("balance.changed", value=b"not a balance", key=b"guest")
    await producer.stop()
    published = await read_published(kafka, now=system_clock())
    assert [each for each in published if each.mandate_id == mandate] == [
        PublishedBalance(mandate, account_no, 3, -105_000)
    ]
    code, answer = await _audit(servers, "--json")
    assert (code, answer["ok"]) == (0, True)
    looked_at = {check["check"]: check["accounts"] for check in answer["checks"]}
    assert looked_at["published"] == len(published)
    # Somebody takes the last charge out of every place in the database.
    async with unseen(servers.admin_dsn, schema="billing") as admin:
        row = await admin.fetchrow(
            "DELETE FROM transactions WHERE posted_account_no = $1 AND seq = 3 RETURNING *", account_no
        )
        remainder = "(derivation::jsonb ->> 'carry_after')::numeric"
        await admin.execute(
            f"UPDATE accounts a SET seq = t.seq, balance = t.balance_after, rounding_remainder = {remainder}"
            f" FROM transactions t"
            " WHERE a.no = $1 AND t.posted_account_no = $1 AND t.seq = 2",
            account_no,
        )
        taken = "UPDATE rollups SET cost = cost - $3, count = count - 1 WHERE mandate_no = $1 AND day = $2"
        await admin.execute(taken, row["mandate_no"], row["period_day"], row["amount"])
        failing = [(check.name, check.failing) for check in await audit(admin, published) if check.failing_count]
    detail = "row 3 was published with balance -105000 and is gone"
    assert failing == [("published", [{"mandateId": mandate, "accountId": str(account_no), "detail": detail}])]


async def test_without_the_broker_the_books_are_checked_and_the_rest_is_not_called_right(
    servers: ServerPair, database: Database
) -> None:
    code, answer = await _audit(servers, "--json", broker="127.0.0.1:1")
    assert (code, answer["ok"]) == (1, False)
    failing = [check for check in answer["checks"] if check["failing"]]
    assert [check["check"] for check in failing] == ["published"]
    assert failing[0]["failures"][0]["detail"].startswith("published balances cannot be read from the broker: Kafka")
    code, text = await _audit(servers, broker="127.0.0.1:1")
    assert (code, text.splitlines()[-1]) == (1, "1 failures")
    # A table, however long the name of a check is.
    assert len({line.index(" looked at") for line in text.splitlines() if " looked at" in line}) == 1
