"""A transaction explained over HTTP and by the command: what it came from, to whom it is shown, and that it adds up."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.payment_events import CreditPayments, RefundPayments
from services.billing.ledger.domain import transaction_id
from services.billing.pricing import PriceList, PriceVersion, version_to_text
from services.billing.pricing.import_prices import set_rate
from services.billing.pricing.repository import add_versions, lock_revision, raise_revision
from services.billing.pricing.version import Factor
from services.chassis.caller import Caller
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, checker, member_of, system_admin
from tests.support.charging import charge
from tests.support.events import RawRecord, new_mandate, usage_record, voided_record
from tests.support.explanations import assert_explained
from tests.support.facts import paid, refunded, subscription
from tests.support.holding import Holding, chf, usage_event
from tests.support.ledger import Books
from tests.support.priced_usage import NOW, any_number, any_versions, fitting_record, is_accepted
from tests.support.processes import run_command
from tests.support.recharging import Recharged
from tests.support.rerating import of_model, rerate
from tests.support.stack import ServerPair

DAY = datetime(2026, 5, 4, 10, tzinfo=UTC)
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
# No other test gives them a rate.
CURRENCY, OTHERS = "PYG", ("GTQ", "HNL")


async def explain(api: BillingApi, transaction: object, caller: Caller | None = None) -> Any:
    path = f"/api/billing/transactions/{transaction}/explain"
    answer = await api.call(caller or system_admin(), "GET", path)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)


async def transactions(books: Books, mandate: str) -> list[UUID]:
    """The ids of a mandate's rows as they were recorded, those of one moment by account and number."""
    rows = sorted(await books.rows(mandate), key=lambda row: (row["recorded_at"], row["posted_account_no"], row["seq"]))
    return [transaction_id(row["posted_account_no"], row["seq"]) for row in rows]


async def _add_prices(database: Database, versions: Sequence[PriceVersion]) -> None:
    async with database.transaction() as connection:
        await lock_revision(connection)
        await add_versions(connection, [(version, version_to_text(version)) for version in versions], None)
        await raise_revision(connection)


async def _add_rate(database: Database, currency: str, rate: Decimal, since: datetime = SINCE) -> None:
    async with database.transaction() as connection:
        await lock_revision(connection)
        await set_rate(connection, currency=currency, rate=rate, valid_from=since, actor="tests")
        await raise_revision(connection)


async def test_a_charge_by_the_price_book_is_explained_from_its_event_to_its_amount(
    api: BillingApi, books: Books, mandate: str
) -> None:
    model = f"model-{uuid4()}"
    lists = (
        PriceList({"input": Decimal("0.000002"), "output": Decimal("0.00001")}, up_to=1000),
        PriceList({"input": Decimal("0.000004"), "output": Decimal("0.00002")}, above=1000),
        PriceList({"web_searches": Decimal("0.01")}, tiers=("*",)),
    )
    version = PriceVersion(
        "acme", model, CURRENCY, SINCE, lists, (Factor(Decimal("1.1"), when={"region": "eu"}),), "https://acme.test"
    )
    await _add_prices(api.database, [version])
    await _add_rate(api.database, CURRENCY, Decimal("0.5"))
    usage = usage_record(
        mandate,
        cost=None,
        provider="acme",
        model=model,
        tokens={"input": 1000, "cache_read": 1, "reasoning": 7, "provider_total": 9},
        quantities={"web_searches": "2"},
        service_tier="default",
        conditions={"region": "eu"},
        response_id="r-1",
        workflow_id="w-1",
        metadata={"team": "a"},
        at=DAY,
    )
    await charge(api.database, usage)
    (transaction,) = await transactions(books, mandate)
    it = await explain(api, transaction)
    assert_explained(it)
    # (1000 + 1) x 0.000004 x 1.1 + 7 x 0.00002 x 1.1 + 2 x 0.01, at 0.5, with 50 %.
    assert it["baseCost"] == {"amount": "0.0245584", "currency": CURRENCY}
    assert (it["exactPrice"], it["amount"], it["carryBefore"]) == ("0.0184188", "0.018419", "0.000000")
    assert it["carryAfter"] == "-0.0000002"
    assert (it["rate"], it["markupPercent"]) == ("0.5", "50")
    event = it["event"]
    assert (event["id"], event["time"], event["kind"]) == (str(usage.event_id), "2026-05-04T10:00:00Z", "ai")
    assert event["tokens"] == {"input": 1000, "cache_read": 1, "reasoning": 7, "provider_total": 9}
    assert (event["service_tier"], event["response_id"], event["workflow_id"]) == ("default", "r-1", "w-1")
    assert event["metadata"] == {"team": "a"}
    assert [(line["component"], line["pricedAs"], line["factor"]) for line in it["lines"]] == [
        ("input", None, "1.1"),
        ("cache_read", "as input", "1.1"),
        ("reasoning", "as output", "1.1"),
        ("web_searches", None, "1"),
    ]
    assert it["selection"] == {
        "serviceTier": "standard",
        "promptTokens": 1001,
        "above": 1000,
        "upTo": None,
        "conditions": {"region": "eu"},
        "windows": [],
    }
    (price,) = it["priceVersions"]
    assert (price["validFrom"], price["source"]) == ("2026-01-01T00:00:00Z", "https://acme.test")
    assert price["lists"][0] == {"up_to": 1000, "prices": {"input": "0.000002", "output": "0.00001"}}
    assert it["storedRate"] == {
        "id": it["storedRate"]["id"],
        "currency": CURRENCY,
        "rate": "0.5",
        "validFrom": "2026-01-01T00:00:00Z",
    }
    assert it["postings"] == [
        {
            "accountId": it["postings"][0]["accountId"],
            "accountType": "MANDATE",
            "userId": None,
            "contraAccount": "REVENUE",
            "amount": "-0.018419",
            "balanceAfter": "-0.018419",
        }
    ]
    assert (it["corrections"], it["corrects"], it["hold"], it["payment"], it["grants"]) == ([], None, None, None, [])
    # What came later leaves it as it was.
    await _add_rate(api.database, CURRENCY, Decimal("0.7"))
    await _add_prices(api.database, [version])
    assert await explain(api, transaction) == it


async def test_whoever_may_not_see_a_transaction_is_told_that_there_is_none(
    api: BillingApi, books: Books, mandate: str
) -> None:
    instance = f"i-{uuid4()}"
    await charge(api.database, usage_record(mandate, "user-1"))
    await charge(api.database, usage_record(mandate, "user-2", feature_instance_id=instance))
    first, second = await transactions(books, mandate)
    instance_admin = Caller(user_id="far", instances=frozenset([instance]), instance_mandates=frozenset([mandate]))
    seen = [
        (member_of(mandate, user_id="user-1"), {first}),
        (member_of(mandate, user_id="user-2"), {second}),
        (member_of(mandate, user_id="admin-1"), set()),
        (admin_of(mandate), {first, second}),
        (admin_of(new_mandate()), set()),
        (member_of(new_mandate(), user_id="user-1"), set()),
        (instance_admin, {second}),
        (system_admin(), {first, second}),
    ]
    for caller, visible in seen:
        for transaction in (first, second):
            answer = await api.call(caller, "GET", f"/api/billing/transactions/{transaction}/explain")
            assert answer.status_code == (200 if transaction in visible else 404), (caller, answer.text)
            if transaction in visible:
                assert answer.json()["transaction"]["id"] == str(transaction)
            else:
                assert answer.json()["code"] == "TRANSACTION_UNKNOWN"
    for nobody, status in ((checker(), 403), (None, 401)):
        answer = await api.call(nobody, "GET", f"/api/billing/transactions/{first}/explain")
        assert answer.status_code == status


@pytest.mark.parametrize(
    "transaction",
    ["nothing", "%20", str(UUID(int=0)), str(UUID(int=4 << 76)), str(transaction_id(2**60 - 1, 2**62 - 1)), "x" * 300],
)
async def test_what_is_no_transaction_is_unknown(api: BillingApi, transaction: str) -> None:
    answer = await api.call(system_admin(), "GET", f"/api/billing/transactions/{transaction}/explain")
    assert (answer.status_code, answer.json()["code"]) == (404, "TRANSACTION_UNKNOWN")


async def test_a_charge_names_what_took_it_back_and_that_names_the_charge(
    api: BillingApi, books: Books, mandate: str
) -> None:
    usage = usage_record(mandate, amount="1")
    await charge(api.database, usage)
    (charged,) = await transactions(books, mandate)
    await charge(api.database, voided_record(mandate, usage.event_id, "sent twice"))
    reversing = next(each for each in await transactions(books, mandate) if each != charged)
    it = await explain(api, charged)
    assert_explained(it)
    (correction,) = it["corrections"]
    assert (correction["transactionId"], correction["amount"]) == (str(reversing), "1.500000")
    assert correction["description"] == "Reversal: sent twice"
    other = await explain(api, reversing)
    assert (other["corrects"]["transactionId"], other["corrects"]["amount"]) == (str(charged), "-1.500000")
    assert other["event"] == it["event"]
    names = ("baseCost", "exactPrice", "rounding", "correction", "storage", "hold")
    assert [other[name] for name in names] == [None] * len(names)
    assert (other["amount"], other["postings"][0]["amount"]) == ("1.500000", "1.500000")


async def test_what_is_no_usage_says_what_there_is(api: BillingApi, books: Books, mandate: str) -> None:
    path = f"/api/billing/admin/credit/{mandate}"
    credit = (await api.call(system_admin(), "POST", path, json={"amount": -3, "description": "Fee"})).json()
    it = await explain(api, credit["id"])
    assert it["transaction"] == credit
    assert {name for name, value in it.items() if value in (None, [])} == {
        *("event", "baseCost", "lines", "selection", "priceVersions", "rate", "storedRate", "markupPercent"),
        *("exactPrice", "carryBefore", "carryAfter", "rounding", "grants", "corrections", "corrects", "hold"),
        *("payment", "invoiceLine", "fault", "storage", "correction"),
    }
    (posting,) = it["postings"]
    assert (posting["amount"], posting["contraAccount"], posting["balanceAfter"]) == ("-3.000000", "ADMIN", "-3.000000")
    assert it["amount"] == "3.000000"


async def test_each_part_of_a_payment_names_the_whole_of_it(api: BillingApi, books: Books, mandate: str) -> None:
    await api.switch(mandate, "PREPAY_USER")
    before = set(await transactions(books, mandate))
    reference = f"cs_{uuid4().hex}"
    await CreditPayments(api.database, clock=system_clock)([paid(mandate, 10, reference=reference)], [])
    parts = [await explain(api, each) for each in await transactions(books, mandate) if each not in before]
    assert sorted(part["amount"] for part in parts) == ["3.333333", "3.333333", "3.333334"]
    for part in parts:
        payment = part["payment"]
        assert (payment["reference"], payment["amount"]) == (reference, "10.000000")
        assert (payment["refund"], payment["recharge"]) == (None, None)
        assert (part["postings"][0]["accountType"], part["postings"][0]["contraAccount"]) == (
            "USER",
            "PAYMENT_PROVIDER",
        )
        assert part["postings"][0]["userId"] in ("admin-1", "user-1", "user-2")
    switched = [await explain(api, each) for each in before]
    assert {each["postings"][0]["contraAccount"] for each in switched} == {"PROMOTIONAL"}


async def test_a_refund_names_the_payment_that_it_takes_back(api: BillingApi, books: Books, mandate: str) -> None:
    reference, early = f"cs_{uuid4().hex}", f"cs_{uuid4().hex}"
    await CreditPayments(api.database, clock=system_clock)([paid(mandate, 10, reference=reference)], [])
    await api.switch(mandate, "PREPAY_USER")
    facts = [refunded(mandate, 4, reference=each, refund_id=f"re_{each}") for each in (reference, early)]
    await RefundPayments(api.database, clock=system_clock)(facts, [])
    parts: dict[str, list[Any]] = {reference: [], early: []}
    for row in await books.rows(mandate):
        if row["contra_account"] == "PAYMENT_PROVIDER" and row["amount"] < 0:
            it = await explain(api, transaction_id(row["posted_account_no"], row["seq"]))
            assert it["fault"] is None
            parts[it["payment"]["reference"]].append(it)
    for of_payment, credited in ((reference, "10.000000"), (early, None)):
        assert len(parts[of_payment]) == 3
        for it in parts[of_payment]:
            payment = it["payment"]
            assert payment["amount"] == credited
            assert (payment["creditedAt"] is None, payment["recharge"]) == (credited is None, None)
            assert (payment["refund"]["refundId"], payment["refund"]["amount"]) == (f"re_{of_payment}", "4.000000")
        assert sum(Decimal(it["amount"]) for it in parts[of_payment]) == -4


async def test_what_came_back_after_all_names_the_refund_and_the_payment(
    api: BillingApi, books: Books, mandate: str
) -> None:
    reference = f"cs_{uuid4().hex}"
    refund_id = f"re_{reference}"
    await CreditPayments(api.database, clock=system_clock)([paid(mandate, 10, reference=reference)], [])
    back = paid(mandate, 4, reference=refund_id, description="Failed refund: Stripe payment")
    await RefundPayments(api.database, clock=system_clock)(
        [refunded(mandate, 4, reference=reference, refund_id=refund_id)], []
    )
    await CreditPayments(api.database, clock=system_clock)([back], [])
    rows = [row for row in await books.rows(mandate) if row["contra_account"] == "PAYMENT_PROVIDER"]
    for row in rows:
        payment = (await explain(api, transaction_id(row["posted_account_no"], row["seq"])))["payment"]
        assert (payment["reference"], payment["amount"]) == (reference, "10.000000")
        named = payment["refund"] and (payment["refund"]["refundId"], payment["refund"]["amount"])
        assert named == (None if row["reference_id"] == reference else (refund_id, "4.000000"))
    assert sorted(row["amount"] for row in rows) == [-4_000_000, 4_000_000, 10_000_000]


async def test_what_a_recharge_paid_names_the_recharge(api: BillingApi, books: Books) -> None:
    mandate = Recharged(api.database, datetime.now(UTC))
    await mandate.begin()
    await mandate.recharging()
    await mandate.credit(-1)
    (told,) = await mandate.request()
    amount, reference = told["amount"]["amount"], f"pi_{uuid4().hex}"
    facts: dict[str, Any] = {"reason": "recharge", "recharge_id": UUID(told["recharge_id"]), "reference": reference}
    await mandate.pay(paid(mandate.id, int(Decimal(amount)), **facts))
    (row,) = [row for row in await books.rows(mandate.id) if row["contra_account"] == "PAYMENT_PROVIDER"]
    payment = (await explain(api, transaction_id(row["posted_account_no"], row["seq"])))["payment"]
    assert (payment["reference"], payment["amount"], payment["refund"]) == (reference, amount, None)
    assert (payment["recharge"]["rechargeId"], payment["recharge"]["amount"]) == (told["recharge_id"], amount)


async def test_what_is_left_of_a_balance_is_not_shown_to_the_administrator_of_an_instance_alone(
    api: BillingApi, books: Books, mandate: str
) -> None:
    instance = f"i-{uuid4()}"
    usage = usage_record(mandate, amount="1", feature_instance_id=instance)
    await charge(api.database, usage)
    await charge(api.database, voided_record(mandate, usage.event_id))
    instance_admin = Caller(user_id="far", instances=frozenset([instance]), instance_mandates=frozenset([mandate]))
    for transaction, left in zip(await transactions(books, mandate), ("-1.500000", "0.000000"), strict=True):
        it = await explain(api, transaction, instance_admin)
        (posting,) = it["postings"]
        assert (it["transaction"]["balanceAfter"], posting["balanceAfter"]) == (None, None)
        for caller in (admin_of(mandate), system_admin()):
            assert (await explain(api, transaction, caller))["postings"] == [{**posting, "balanceAfter": left}]


async def test_usage_of_an_unlimited_mandate_shows_no_balance(api: BillingApi, books: Books, mandate: str) -> None:
    await api.switch(mandate, "UNLIMITED")
    await charge(api.database, usage_record(mandate, amount="1"))
    (transaction,) = await transactions(books, mandate)
    it = await explain(api, transaction)
    assert_explained(it)
    assert (it["postings"][0]["accountType"], it["postings"][0]["balanceAfter"]) == ("INTERNAL", None)


async def test_a_charge_names_the_grants_that_it_spent(api: BillingApi, books: Books, mandate: str) -> None:
    changed = subscription(mandate, uuid4(), 1, "ACTIVE", budget_due=True)
    await ApplySubscription(api.database, clock=system_clock)([changed], [])
    (given,) = await transactions(books, mandate)
    usage = usage_record(mandate, amount="1")
    await charge(api.database, usage)
    (spent,) = [each for each in await transactions(books, mandate) if each != given]
    (grant,) = (await explain(api, given))["grants"]
    assert (grant["kind"], grant["amount"]) == ("BUDGET", "20.000000")
    it = await explain(api, spent)
    assert_explained(it)
    assert it["grants"] == [{**grant, "amount": "-1.500000"}]
    await charge(api.database, voided_record(mandate, usage.event_id))
    (correction,) = (await explain(api, spent))["corrections"]
    assert (await explain(api, correction["transactionId"]))["grants"] == [{**grant, "amount": "1.500000"}]


async def test_a_charge_names_the_hold_that_it_settled(api: BillingApi, books: Books, mandate: str) -> None:
    holding = Holding(api, books, mandate)
    await holding.credit(20)
    known = set(await transactions(books, mandate))
    by_usage, by_cost, by_event = [await holding.hold("2") for _ in range(3)]
    named, later = (usage_record(mandate, hold_id=by_usage) for _ in range(2))
    await charge(api.database, named)
    await charge(api.database, later)
    for hold, body in ((by_cost, {"cost": chf("1")}), (by_event, {"event": usage_event(mandate)})):
        assert (await holding.capture(hold, **body)).status_code == 200
    found = {}
    for transaction in set(await transactions(books, mandate)) - known:
        it = await explain(api, transaction)
        assert_explained(it)
        found[it["event"]["id"]] = it["hold"] and (it["hold"]["holdId"], it["hold"]["amount"])
    assert (found.pop(str(named.event_id)), found.pop(str(later.event_id))) == ((by_usage, "2.000000"), None)
    assert found.pop(by_cost) == (by_cost, "2.000000")
    assert list(found.values()) == [(by_event, "2.000000")]


async def _random_usage(random: Random, versions: Sequence[PriceVersion], mandates: Sequence[str]) -> list[RawRecord]:
    records = []
    for _ in range(120):
        mandate, user = random.choice(mandates), random.choice(["user-1", "user-2"])
        record = fitting_record(random, random.choice(versions))
        if random.random() < 0.3:
            amount, currency = any_number(random) + Decimal("0.001"), random.choice([*OTHERS, "CHF"])
            record = usage_record(mandate, user, amount=f"{amount:f}", currency=currency, at=NOW - timedelta(hours=1))
        assert record.value is not None
        body = json.loads(record.value) | {"mandate_id": mandate, "user_id": user}
        made = RawRecord(json.dumps(body).encode(), record.headers, mandate.encode())
        records.extend([made] if is_accepted(made) else [])
    return records


async def test_whatever_is_charged_recomputes_from_what_is_printed(api: BillingApi, books: Books) -> None:
    """Tiers, bands, conditions, windows, factors, markups, currencies, billing models, cancellations: at random."""
    random, mandates = Random(20261129), [new_mandate() for _ in range(4)]
    for mandate, model in zip(mandates, ("PREPAY_USER", "UNLIMITED", None, None), strict=True):
        await api.directory(mandate, {"user-1": ["member"], "user-2": ["member"]})
        if model is not None:
            await api.switch(mandate, model)
        terms = {"markupPercent": random.choice([0, 12.5, 33.3333]), "creditLimit": None}
        answer = await api.call(system_admin(), "PUT", f"/api/billing/admin/terms/{mandate}", json=terms)
        assert answer.status_code == 200, answer.text
    models = [("acme", f"model-{uuid4()}") for _ in range(6)]
    versions = [version for _ in range(12) for version in any_versions(random, models, OTHERS)]
    await _add_prices(api.database, versions)
    for currency in OTHERS:
        for number in range(2):
            since = NOW - timedelta(days=1000 - 900 * number)
            await _add_rate(api.database, currency, any_number(random, (4, 12)) + Decimal("0.01"), since)
    known: set[tuple[str, UUID]] = set()
    for _ in range(3):
        records = await _random_usage(random, versions, mandates)
        voids = [
            voided_record(json.loads(record.value or b"")["mandate_id"], record.event_id)
            for record in random.sample(records, 20)
        ]
        known.update((json.loads(record.value or b"")["mandate_id"], record.event_id) for record in records)
        await charge(api.database, *records[:60], *voids[:10])
        await charge(api.database, *records[60:], *voids[10:])
    await _rerate_twice(api.database, random, models, versions)
    await charge(api.database, *(voided_record(key[0], key[1]) for key in random.sample(sorted(known), 30)))
    seen: Counter[str] = Counter()
    for mandate in mandates:
        standing: dict[str, Decimal] = {}
        rows = sorted(await books.rows(mandate), key=lambda row: (row["posted_account_no"], row["seq"]))
        for row in [row for row in rows if row["contra_account"] == "REVENUE"]:
            it = await explain(api, transaction_id(row["posted_account_no"], row["seq"]))
            seen[await _assert_row_explained(api, it, standing)] += 1
    assert min(seen[each] for each in ("charge", "correction 1", "correction 2", "reversal")) > 5, seen
    assert await books.failing() == {}


async def _rerate_twice(
    database: Database, random: Random, models: Sequence[tuple[str, str]], versions: Sequence[PriceVersion]
) -> None:
    """By other prices, some of which stay, and other rates each time."""
    for number in range(2):
        await _add_prices(database, [_dearer(each, random) for each in versions])
        for currency in OTHERS:
            since = NOW - timedelta(days=99 - number)
            await _add_rate(database, currency, any_number(random, (4, 12)) + Decimal("0.01"), since)
        for provider, model in models:
            await rerate(database, of_model(model, provider=provider))


def _dearer(version: PriceVersion, random: Random) -> PriceVersion:
    lists = tuple(
        replace(
            each, prices={name: price + random.choice([0, any_number(random)]) for name, price in each.prices.items()}
        )
        for each in version.lists
    )
    return replace(version, lists=lists)


async def _assert_row_explained(api: BillingApi, it: Any, standing: dict[str, Decimal]) -> str:
    """Of a charge, a correction or a reversal, in the order of the account, and which of these it is."""
    if it["corrects"] is None:
        assert_explained(it)
        standing[it["event"]["id"]] = Decimal(it["exactPrice"])
        return "charge"
    charged = await explain(api, it["corrects"]["transactionId"])
    assert it["event"] == charged["event"]
    if it["correction"] is None:
        of_corrections = sum(Decimal(each["amount"]) for each in charged["corrections"][:-1])
        assert Decimal(it["amount"]) == Decimal(charged["amount"]) - of_corrections
        assert (it["fault"], charged["corrections"][-1]["transactionId"]) == (None, it["transaction"]["id"])
        return "reversal"
    assert_explained(it)
    assert Decimal(it["correction"]["oldExactPrice"]) == standing[it["event"]["id"]]
    standing[it["event"]["id"]] = Decimal(it["exactPrice"])
    return f"correction {it['correction']['number']}"


async def test_the_command_prints_it(servers: ServerPair, api: BillingApi, books: Books, mandate: str) -> None:
    await charge(api.database, usage_record(mandate, amount="1.00000007", description="A\u202eB", at=DAY))
    (transaction,) = await transactions(books, mandate)
    shown = run_command(servers, "billing", "explain", str(transaction))
    assert shown.returncode == 0, shown.stderr
    lines = {line.split()[0]: " ".join(line.split()) for line in shown.stdout.splitlines()}
    assert lines["transaction"] == f"transaction {transaction} DEBIT WORKFLOW 1.500000 CHF"
    assert lines["A?B"] == "A?B"
    assert lines["base"] == "base cost 1.00000007 CHF"
    assert lines["markup"] == "markup 50 %"
    assert lines["rounding"] == "rounding 0.000000 + 1.500000105 = 1.500000105"
    assert lines["rounded"] == "rounded 1.500000, carried 0.000000105"
    read = run_command(servers, "billing", "explain", str(transaction), "--json")
    assert json.loads(read.stdout) == await explain(api, transaction)
    await _add_rate(api.database, CURRENCY, Decimal(2), DAY - timedelta(days=1))
    await charge(api.database, usage_record(mandate, amount="1", currency=CURRENCY, model=f"m-{mandate}", at=DAY))
    await _add_rate(api.database, CURRENCY, Decimal(3), DAY - timedelta(days=1))
    done = await rerate(api.database, of_model(f"m-{mandate}"))
    correction = (await transactions(books, mandate))[-1]
    printed = run_command(servers, "billing", "explain", str(correction)).stdout
    lines = {line.split()[0]: " ".join(line.split()) for line in printed.splitlines()}
    assert lines["exact"] == "exact price 4.500000 CHF"
    assert lines["correction"] == f"correction 1 4.500000 - 3.000000 = 1.500000 CHF, by re-rating {done['id']}"
    assert lines["rounding"] == "rounding 0.000000105 + 1.500000 = 1.500000105"
    assert lines["corrects"].endswith(" -3.000000 CHF")
    gone = run_command(servers, "billing", "explain", str(uuid4()))
    assert gone.returncode == 1
    assert gone.stderr.endswith("There is no such transaction.\n")
