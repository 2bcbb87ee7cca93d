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
from tests.support.charging import charge
from tests.support.databases import unseen
from tests.support.events import new_mandate, usage_record
from tests.support.ledger import Books
from tests.support.parts import at_work
from tests.support.processes import run_command
from tests.support.stack import ServerPair


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
