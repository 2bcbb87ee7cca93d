"""Taking a charge back on a system administrator's word: over HTTP by its transaction, by the command by its event."""

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.billing.commands.reverse import run
from services.billing.corrections import reverse_charge
from services.billing.corrections.reverse_charge import cancel_event
from services.billing.ledger.domain import transaction_id
from services.billing.settings import BillingSettings
from services.chassis.clock import system_clock
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, checker, member_of, system_admin
from tests.support.charging import charge, settling
from tests.support.events import new_mandate, usage_record, voided_record
from tests.support.ledger import Books
from tests.support.locks import held
from tests.support.processes import run_command
from tests.support.stack import ServerPair
from tests.support.statements import CountedDatabase
from tests.support.waiting import eventually

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
CHARGED = 1_500_000


async def _charged(api: BillingApi, books: Books, mandate: str, amount: str = "1") -> tuple[UUID, str]:
    """The ids of a new usage event and of the transaction that charged it."""
    usage = usage_record(mandate, "user-1", amount=amount, at=AT)
    await charge(api.database, usage)
    (row,) = await books.fetch(
        "SELECT posted_account_no, seq FROM transactions WHERE event_id = $1 AND NOT own", usage.event_id
    )
    return usage.event_id, str(transaction_id(row["posted_account_no"], row["seq"]))


async def _reverse(api: BillingApi, transaction: str, reason: str = "sent twice") -> httpx.Response:
    path = f"/api/billing/transactions/{transaction}/reverse"
    return await api.call(system_admin(), "POST", path, json={"reason": reason})


async def _reversals(books: Books, mandate: str) -> int:
    return int(
        await books.value(
            "SELECT count(*) FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
            " WHERE m.id = $1 AND t.own AND t.contra_account = 'REVENUE'",
            mandate,
        )
    )


async def test_the_answer_is_the_transaction_that_takes_the_charge_back(
    api: BillingApi, books: Books, mandate: str
) -> None:
    event_id, transaction = await _charged(api, books, mandate)
    answer = await _reverse(api, transaction)
    assert answer.status_code == 200, answer.text
    row: dict[str, Any] = json.loads(answer.text, parse_float=Decimal)
    assert (row["transactionType"], row["amount"], row["balanceAfter"]) == ("ADJUSTMENT", Decimal("1.5"), 0)
    assert (row["referenceType"], row["referenceId"]) == ("WORKFLOW", transaction)
    assert (row["description"], row["createdByUserId"]) == ("Reversal: sent twice", "root")
    assert (row["aicoreProvider"], row["featureCode"], row["mandateId"]) == ("anthropic", "chat", mandate)
    assert row["createdAt"].startswith("2026-05-04T10:00:00")
    # A repeat is answered the same, whatever reason it gives, and so is one after a cancellation by an event.
    await charge(api.database, voided_record(mandate, event_id))
    for reason in ("sent twice", "another reason"):
        assert (await _reverse(api, transaction, reason)).text == answer.text
    assert (await _reverse(api, f"{{{transaction.upper()}}}")).text == answer.text
    assert await _reversals(books, mandate) == 1
    log = await books.fetch(
        "SELECT a.actor, a.after FROM audit_log a JOIN mandates m ON m.no = a.mandate_no"
        " WHERE m.id = $1 AND a.action = 'cancellation'",
        mandate,
    )
    told = [(entry["actor"], json.loads(entry["after"])) for entry in log]
    assert told == [("root", {"eventId": str(event_id), "reason": "sent twice"})]
    assert await books.failing() == {}


async def test_what_an_event_cancelled_is_answered_to_the_administrator_too(
    api: BillingApi, books: Books, mandate: str
) -> None:
    event_id, transaction = await _charged(api, books, mandate)
    await charge(api.database, voided_record(mandate, event_id, "by the publisher"))
    row = (await _reverse(api, transaction)).json()
    assert (row["description"], row["createdByUserId"]) == ("Reversal: by the publisher", None)
    assert await _reversals(books, mandate) == 1


async def test_only_charges_of_usage_can_be_taken_back(api: BillingApi, books: Books, mandate: str) -> None:
    _, transaction = await _charged(api, books, mandate)
    reversing = (await _reverse(api, transaction)).json()["id"]
    credit = await api.call(system_admin(), "POST", f"/api/billing/admin/credit/{mandate}", json={"amount": -3})
    assert credit.status_code == 200, credit.text
    for other in (reversing, credit.json()["id"]):
        refused = await _reverse(api, other)
        assert (refused.status_code, refused.json()["code"]) == (409, "NO_USAGE_CHARGE")
    german = await api.call(
        system_admin(),
        "POST",
        f"/api/billing/transactions/{reversing}/reverse",
        json={"reason": "x"},
        headers={"Accept-Language": "de"},
    )
    assert german.json()["detail"].startswith("Diese Transaktion ist keine Belastung")


@pytest.mark.parametrize(
    "transaction",
    ["nothing", "%20", str(UUID(int=0)), str(UUID(int=4 << 76)), str(transaction_id(2**60 - 1, 2**62 - 1)), "x" * 300],
)
async def test_a_transaction_that_is_not_there_is_unknown(api: BillingApi, transaction: str) -> None:
    refused = await _reverse(api, transaction)
    assert (refused.status_code, refused.json()["code"]) == (404, "TRANSACTION_UNKNOWN")


@pytest.mark.parametrize(
    "body",
    [
        *("{}", "[]", ""),
        *('{"reason": null}', '{"reason": ""}', '{"reason": " "}', '{"reason": "\\u0000"}', '{"reason": 5}'),
        json.dumps({"reason": "x" * 501}),
    ],
)
async def test_a_reason_is_needed(api: BillingApi, books: Books, mandate: str, body: str) -> None:
    _, transaction = await _charged(api, books, mandate)
    path = f"/api/billing/transactions/{transaction}/reverse"
    refused = await api.call(system_admin(), "POST", path, content=body)
    assert refused.status_code == 422, refused.text
    assert await _reversals(books, mandate) == 0


async def test_only_a_system_administrator_may(api: BillingApi, books: Books, mandate: str) -> None:
    _, transaction = await _charged(api, books, mandate)
    path = f"/api/billing/transactions/{transaction}/reverse"
    for caller in (admin_of(mandate), member_of(mandate, user_id="user-1"), checker({"usage:write": True})):
        answer = await api.call(caller, "POST", path, json={"reason": "mine"})
        assert answer.status_code == 403, answer.text
    assert (await api.call(None, "POST", path, json={"reason": "mine"})).status_code == 401
    assert await _reversals(books, mandate) == 0


async def test_twenty_at_once_are_one(api: BillingApi, books: Books, mandate: str) -> None:
    event_id, transaction = await _charged(api, books, mandate)
    events = [charge(api.database, voided_record(mandate, event_id, f"event {number}")) for number in range(3)]
    answers = await asyncio.gather(*(_reverse(api, transaction, f"request {number}") for number in range(20)), *events)
    texts = {answer.text for answer in answers if answer is not None}
    assert len(texts) == 1, texts
    assert await _reversals(books, mandate) == 1
    assert await books.pool(mandate) == 0
    assert await books.failing() == {}


async def test_a_charge_of_a_mandate_that_the_directory_does_not_know_can_be_taken_back(
    api: BillingApi, books: Books
) -> None:
    mandate = new_mandate()
    _, transaction = await _charged(api, books, mandate)
    row = (await _reverse(api, transaction)).json()
    assert (row["mandateId"], row["amount"]) == (mandate, 1.5)


async def test_the_command_says_what_became_of_usage(
    servers: ServerPair, api: BillingApi, books: Books, mandate: str
) -> None:
    event_id, transaction = await _charged(api, books, mandate)
    free, parked, awaited = (
        usage_record(mandate, amount="0"),
        usage_record(mandate, cost=None, model=f"model-{uuid4()}", tokens={"input": 1}),
        usage_record(mandate, amount="2"),
    )
    await charge(api.database, free, parked)

    def reverse(event: UUID, reason: str = "by hand") -> list[str]:
        done = run_command(servers, "billing", "reverse", mandate, str(event), "--reason", reason)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    (line,) = reverse(event_id)
    assert line.startswith("taken back: 1.500000 CHF, by transaction ")
    assert reverse(event_id, "again") == [line, "it was cancelled before: by hand"]
    assert line.endswith((await _reverse(api, transaction)).json()["id"])
    assert reverse(free.event_id) == ["nothing to take back: the usage was free"]
    assert reverse(parked.event_id)[0].startswith("nothing to take back: the usage waited for a price")
    assert reverse(awaited.event_id)[0].startswith("no such usage has arrived yet")
    await charge(api.database, awaited, parked)
    assert reverse(awaited.event_id)[0].startswith("taken back: 3.000000 CHF")
    assert await books.parked([mandate]) == 0
    assert await _reversals(books, mandate) == 2
    assert await books.failing() == {}


async def test_the_command_tells_a_transaction_from_an_event(
    servers: ServerPair, api: BillingApi, books: Books, mandate: str
) -> None:
    """Lists show the id of a transaction first. Cancelled as an event it would be awaited for ever, and the charge
    would stand."""
    event_id, transaction = await _charged(api, books, mandate)

    def reverse(name: str) -> tuple[int, str]:
        done = run_command(servers, "billing", "reverse", mandate, name, "--reason", "by hand")
        return done.returncode, done.stdout + done.stderr

    code, told = reverse(transaction)
    assert code == 1
    assert told.startswith(f"{transaction}: this is a transaction, not a usage event")
    assert str(event_id) in told
    assert await _reversals(books, mandate) == 0
    assert await books.value("SELECT count(*) FROM cancellations WHERE event_id = $1", UUID(transaction)) == 0

    assert reverse(str(event_id))[0] == 0
    reversing = (await _reverse(api, transaction)).json()["id"]
    assert reverse(reversing) == (
        1,
        f"{reversing}: this is a transaction that is no charge of usage; nothing was done\n",
    )


async def test_the_command_needs_a_mandate_that_is_there(servers: ServerPair, api: BillingApi, books: Books) -> None:
    nowhere, known = new_mandate(), new_mandate()
    done = run_command(servers, "billing", "reverse", nowhere, str(uuid4()), "--reason", "x")
    assert (done.returncode, done.stderr.strip()) == (1, f"{nowhere}: There is no such mandate.")
    assert await books.value("SELECT count(*) FROM mandates WHERE id = $1", nowhere) == 0
    # Known to the directory alone: its settings are made, and the usage is awaited.
    await api.directory(known, {"user-1": ["member"]})
    done = run_command(servers, "billing", "reverse", known, str(uuid4()), "--reason", "x")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no such usage has arrived yet")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["m", "no-uuid", "--reason", "x"], "argument EVENT_ID: not a UUID"),
        (["m", str(UUID(int=7))], "the following arguments are required: --reason"),
        (["m", str(UUID(int=7)), "--reason", " "], "argument --reason: text of 1 to 500 characters is needed"),
        (["m", str(UUID(int=7)), "--reason", "x" * 501], "argument --reason: text of 1 to 500 characters is needed"),
        (["m", str(UUID(int=7)), "--reason", "\udcff"], "argument --reason: text that is UTF-8 is needed"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(BillingSettings.model_construct(), words)
    assert f"rappen reverse: error: {told}" in capsys.readouterr().err


async def test_usage_that_is_being_priced_is_cancelled_when_that_is_done(
    servers: ServerPair, api: BillingApi, books: Books, mandate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job that prices parked usage has it in hand; the request begins again until it is free."""
    # However long the other charge below takes.
    monkeypatch.setattr(reverse_charge, "TRIES_MAX", 1_000)
    usage = usage_record(mandate, cost=None, model=f"model-{uuid4()}", tokens={"input": 1})
    await charge(api.database, usage)
    counted = CountedDatabase(api.database)
    async with held(
        servers.admin_dsn, "SELECT 1 FROM billing.unposted_events WHERE event_id = $1 FOR UPDATE", usage.event_id
    ) as lock:
        asked = asyncio.create_task(cancel_event(counted, mandate, usage.event_id, "in between", clock=system_clock))
        # Nothing is waited for under the lock of the mandate, so other usage is charged meanwhile.
        await eventually(lambda: counted.calls.count("scalar") >= 3, what="a third try")
        await charge(api.database, usage_record(mandate, amount="1"))
        assert not asked.done()
        await lock.release()
    assert (await asked).state == "unpriced"
    assert await settling(api.database)() >= 0
    assert await books.parked([mandate]) == 0
    assert await books.failing() == {}
