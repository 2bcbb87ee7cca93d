"""Re-rating: charges priced again by the prices as they are now, previewed, posted as differences, never edited."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from asyncpg.exceptions import LockNotAvailableError

from services.billing.corrections.rerate import show_rerating, start_rerating
from services.billing.corrections.reratings import PARTS, lock_part
from services.billing.credits.payment_events import CreditPayments
from services.billing.credits.post_manual_credit import ManualCredit, post_manual_credit
from services.billing.ledger.domain import BALANCE_MAX, transaction_id
from services.billing.pricing.import_prices import set_rate
from services.chassis.clock import system_clock
from tests.integration.billing.conftest import BillingApi
from tests.support.callers import admin_of, checker, member_of, system_admin
from tests.support.charging import charge
from tests.support.databases import opened
from tests.support.events import RawRecord, new_mandate, usage_record, voided_record
from tests.support.facts import paid
from tests.support.ledger import Books
from tests.support.locks import held
from tests.support.rerating import carry_out, of_model, rerate, running
from tests.support.stack import ServerPair

PATH = "/api/billing/admin/rerate"
AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
MAY = {"from": "2026-05-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"}


@pytest.fixture
def model() -> str:
    return f"model-{uuid4()}"


def tokens(mandate: str, model: str, count: int, user: str = "user-1", **more: Any) -> RawRecord:
    return usage_record(mandate, user, **{"cost": None, "model": model, "tokens": {"input": count}, "at": AT} | more)


async def ask(api: BillingApi, *, preview: bool, **more: Any) -> dict[str, Any]:
    answer = await api.call(system_admin(), "POST", PATH, json={**MAY, "preview": preview, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def corrections(books: Books, mandate: str) -> list[asyncpg.Record]:
    """The rows that correct charges of a mandate, each account's in their order."""
    return [row for row in await books.rows(mandate) if row["derivation"] and row["own"]]


def money(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "CHF"}


async def test_a_preview_says_by_mandate_what_a_confirmation_then_posts(
    api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    await api.price(model, "0.001")
    await charge(api.database, *(tokens(mandate, model, count) for count in (1000, 2000)))
    await charge(api.database, tokens(mandate, model, 7, at=datetime(2026, 6, 1, tzinfo=UTC)))
    await api.price(model, "0.003")
    before = await books.rows(mandate)
    preview = await ask(api, preview=True, model=model, provider="anthropic")
    totals = {"charges": 2, "differing": 2, "oldTotal": money("4.500000"), "newTotal": money("13.500000")}
    totals["difference"] = money("9.000000")
    assert preview == {
        "id": None,
        "state": "PREVIEW",
        **MAY,
        "provider": "anthropic",
        "model": model,
        "startedAt": None,
        "startedByUserId": None,
        "finishedAt": None,
        **totals,
        "mandates": [{"mandateId": mandate, **totals}],
        "moreMandates": 0,
        "notPriced": [],
    }
    assert await books.rows(mandate) == before
    # What is exactly of another name is not of this one.
    assert (await ask(api, preview=True, model=model.upper()))["mandates"] == []
    assert (await ask(api, preview=True, model=model, provider="Anthropic"))["mandates"] == []

    ordered = await ask(api, preview=False, model=model)
    assert (ordered["state"], ordered["startedByUserId"], ordered["charges"]) == ("RUNNING", "root", 0)
    assert (await carry_out(api.database, ordered["id"]))["state"] == "DONE"
    done = (await api.call(system_admin(), "GET", f"{PATH}/{ordered['id']}")).json()
    assert {name: done[name] for name in totals} == totals
    assert done["mandates"] == preview["mandates"]
    assert done["startedAt"] <= done["finishedAt"]
    assert (await books.rows(mandate))[: len(before)] == before, "a charge was edited"
    first, second = await corrections(books, mandate)
    charged = {row["event_id"]: row for row in before}
    for row in (first, second):
        origin = next(
            each for each in before if row["reference_id"] == str(transaction_id(row["posted_account_no"], each["seq"]))
        )
        assert row["amount"] == -2 * origin["amount"]
        same = ("posted_account_no", "member_account_no", "dimension_no", "period_day", "occurred_at", "reference_type")
        assert [row[name] for name in same] == [charged[origin["event_id"]][name] for name in same]
        kind = (row["transaction_type"], row["contra_account"], row["description"], row["created_by_user_id"])
        assert kind == ("ADJUSTMENT", "REVENUE", "Re-rating: anthropic", None)
    assert await books.pool(mandate) == -13_500_000 - 10_500
    assert await books.rollups(mandate) == (13_510_500, 3)
    assert await books.failing() == {}
    log = await books.fetch("SELECT actor, after FROM audit_log WHERE action = 'rerating' ORDER BY id DESC LIMIT 1")
    assert (log[0]["actor"], json.loads(log[0]["after"])["id"]) == ("root", ordered["id"])


async def test_the_same_again_changes_nothing_and_a_correction_is_corrected_in_its_turn(
    api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    await api.price(model, "0.0000001")
    await charge(api.database, *(tokens(mandate, model, count) for count in (1, 3, 11, 999)))
    charged = await books.pool(mandate)
    for price, total in (("0.00000035", 53_235), ("0", 0), ("0.0000001", 15_210)):
        await api.price(model, price)
        assert (await rerate(api.database, of_model(model)))["differing"] == 4
        rows = await books.rows(mandate)
        again = await rerate(api.database, of_model(model))
        assert (again["charges"], again["differing"], again["difference"]) == (4, 0, money("0.000000"))
        assert await books.rows(mandate) == rows
        # In 10^-8 CHF; with the remainder it is the exact price, to the last digit.
        assert await _exact(books, mandate) == Decimal(total).scaleb(-8)
        assert await books.failing() == {}
    assert await books.pool(mandate) == charged
    assert len(await corrections(books, mandate)) == 12


async def _exact(books: Books, mandate: str) -> Decimal:
    """The exact price of all that was posted to the pool."""
    (row,) = await books.fetch(
        "SELECT a.balance, a.rounding_remainder FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
        " WHERE m.id = $1 AND a.type = 'MANDATE'",
        mandate,
    )
    return Decimal(-row["balance"]).scaleb(-6) + row["rounding_remainder"]


async def test_what_is_too_little_to_be_posted_is_kept_in_the_remainder(
    api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    await api.price(model, "0.0000002")
    await charge(api.database, tokens(mandate, model, 1))
    await api.price(model, "0.00000021")
    await rerate(api.database, of_model(model))
    (row,) = await corrections(books, mandate)
    assert row["amount"] == 0
    assert await _exact(books, mandate) == Decimal("0.000000315")
    assert await books.failing() == {}


async def test_an_exchange_rate_is_corrected_and_the_markup_stays(
    api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    currency, since = "UZS", datetime(2026, 1, 1, tzinfo=UTC)

    async def rate(value: str) -> None:
        async with api.database.transaction() as connection:
            await set_rate(connection, currency=currency, rate=Decimal(value), valid_from=since, actor="test")

    await rate("0.5")
    await charge(api.database, usage_record(mandate, amount="2", currency=currency, model=model, at=AT))
    terms = {"markupPercent": 900, "creditLimit": None}
    changed = await api.call(system_admin(), "PUT", f"/api/billing/admin/terms/{mandate}", json=terms)
    assert changed.status_code == 200, changed.text
    await rate("0.25")
    done = await rerate(api.database, of_model(model))
    assert (done["oldTotal"], done["newTotal"]) == (money("1.500000"), money("0.750000"))
    (row,) = await corrections(books, mandate)
    assert row["amount"] == 750_000
    assert await books.failing() == {}


async def test_charges_that_have_no_price_any_more_stay_and_are_counted_by_why(
    api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    await api.price(model, "0.001")
    await charge(api.database, tokens(mandate, model, 1000), tokens(mandate, model, 10))
    entry = {"provider": "anthropic", "model": model, "currency": "CHF", "valid_from": "2026-01-01T00:00:00Z"}
    lists = [{"prices": {"output": "1"}}]
    file = {"format": "rappen.prices.v1", "prices": [{**entry, "lists": lists}]}
    answer = await api.call(system_admin(), "POST", "/api/billing/admin/prices", content=json.dumps(file))
    assert answer.status_code == 200, answer.text
    reasons = [{"reason": "NO_PRICE", "provider": "anthropic", "model": model, "currency": None, "charges": 2}]
    assert (await ask(api, preview=True, model=model))["notPriced"] == reasons
    done = await rerate(api.database, of_model(model))
    assert (done["notPriced"], done["charges"]) == (reasons, 0)
    assert await corrections(books, mandate) == []


async def test_a_row_that_does_not_keep_what_it_was_priced_from_stays_too(
    api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    """As a release of before wrote them: cost, rate and markup in themselves."""
    await api.price(model, "0.001")
    await charge(api.database, tokens(mandate, model, 1000))
    old = {"cost": "1", "currency": "CHF", "rate": "1", "markup": "50", "exact": "1.5"}
    kept = json.dumps({**old, "carry_before": "0", "carry_after": "0"}, separators=(",", ":"))
    await books.fetch(
        "UPDATE transactions t SET derivation = $1 FROM mandates m WHERE m.no = t.mandate_no AND m.id = $2",
        kept,
        mandate,
    )
    await api.price(model, "0.002")
    (why,) = (await rerate(api.database, of_model(model)))["notPriced"]
    assert (why["reason"], why["charges"]) == ("NOT_KEPT", 1)
    assert await corrections(books, mandate) == []
    assert await books.failing() == {}


async def test_what_is_cancelled_before_is_not_corrected_and_after_comes_back_with_its_corrections(
    api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    await api.price(model, "0.00100033")
    before, after, kept = (tokens(mandate, model, count) for count in (1001, 2003, 3001))
    await charge(api.database, before, after, kept)
    await charge(api.database, voided_record(mandate, before.event_id))
    for price in ("0.00200077", "0.00000001"):
        await api.price(model, price)
        assert (await rerate(api.database, of_model(model)))["charges"] == 2
    await charge(api.database, voided_record(mandate, after.event_id))
    rows = await books.rows(mandate)
    moved = {
        event_id: sum(
            row["amount"] if row["transaction_type"] == "ADJUSTMENT" else -row["amount"]
            for row in rows
            if row["reference_id"] == charged or row["event_id"] == event_id
        )
        for event_id in (before.event_id, after.event_id)
        for charged in [_public_id(rows, event_id)]
    }
    assert moved == {before.event_id: 0, after.event_id: 0}
    await api.price(model, "0.5")
    assert (await rerate(api.database, of_model(model)))["charges"] == 1
    (count,) = [await books.rollups(mandate)]
    assert (await books.pool(mandate), count[1]) == (-count[0], 1)
    assert await books.failing() == {}


def _public_id(rows: Sequence[asyncpg.Record], event_id: UUID) -> str:
    (row,) = [row for row in rows if row["event_id"] == event_id and not row["own"]]
    return str(transaction_id(row["posted_account_no"], row["seq"]))


@pytest.mark.parametrize("price", ["0.0025", "0.0004"])
@pytest.mark.parametrize(("old", "new"), [("PREPAY_MANDATE", "PREPAY_USER"), ("PREPAY_USER", "PREPAY_MANDATE")])
async def test_after_a_switch_the_difference_is_where_the_switch_would_have_moved_it(
    api: BillingApi, books: Books, mandate: str, model: str, *, old: Any, new: Any, price: str
) -> None:
    if old != "PREPAY_MANDATE":
        await api.switch(mandate, old)
    await api.price(model, "0.001")
    await charge(api.database, *(tokens(mandate, model, 333, user) for user in ("user-1", "user-2", "user-1")))
    await api.switch(mandate, new)
    before = await books.balances(mandate)
    await api.price(model, price)
    await rerate(api.database, of_model(model))
    after = await books.balances(mandate)
    moved = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    total = round(Decimal(999) * (Decimal("0.001") - Decimal(price)) * Decimal("1.5") * 1_000_000)
    third, rest = divmod(abs(total), 3)
    sign = 1 if total > 0 else -1
    shared = {name: sign * (third + (number < rest)) for number, name in enumerate(("admin-1", "user-1", "user-2"))}
    assert moved == ({"pool": total} if new == "PREPAY_MANDATE" else shared)
    assert await books.failing() == {}


async def test_what_no_balance_can_hold_is_left_as_it_is_and_counted(
    api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    other = new_mandate()
    await api.price(model, "0.001")
    await charge(api.database, tokens(mandate, model, 1000), tokens(mandate, model, 10), tokens(other, model, 1000))
    # Of money from elsewhere, so that the account that the credit comes from has room for it.
    await CreditPayments(api.database, clock=system_clock)([paid(mandate, 10)], [])
    await _fill(api, books, mandate, BALANCE_MAX - 100_000)
    await api.price(model, "0.0005")
    done = await rerate(api.database, of_model(model))
    assert (done["charges"], done["differing"], done["difference"]) == (3, 2, money("-0.757500"))
    assert [(why["reason"], why["charges"]) for why in done["notPriced"]] == [("AMOUNT_TOO_LARGE", 1)]
    assert await books.pool(mandate) == BALANCE_MAX - 100_000 + 7_500
    assert await books.failing() == {}


async def test_what_cannot_be_passed_on_is_left_as_it_is_with_all_of_its_account(
    api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    await api.price(model, "0.001")
    await charge(api.database, *(tokens(mandate, model, 1000) for _ in range(2)))
    await CreditPayments(api.database, clock=system_clock)([paid(mandate, 10)], [])
    await api.switch(mandate, "PREPAY_USER")
    await charge(api.database, tokens(mandate, model, 1000))
    await _fill(api, books, mandate, BALANCE_MAX - 1, "user-2")
    before = await books.balances(mandate)
    await api.price(model, "0.0005")
    done = await rerate(api.database, of_model(model))
    assert (done["differing"], [why["charges"] for why in done["notPriced"]]) == (1, [2])
    assert await books.balances(mandate) == {**before, "user-1": before["user-1"] + 750_000}
    assert await books.failing() == {}


async def _fill(api: BillingApi, books: Books, mandate: str, balance: int, user_id: str | None = None) -> None:
    """Brings an account to a balance (micro-CHF), beyond what one request may give."""
    number = await books.value("SELECT no FROM mandates WHERE id = $1", mandate)
    missing = balance - (await books.balances(mandate))[user_id or "pool"]
    credit = ManualCredit(user_id, Decimal(missing).scaleb(-6), "for tests", None)
    async with api.database.transaction() as connection:
        await post_manual_credit(connection, number, credit, caller=system_admin(), now=system_clock())


async def test_two_at_once_and_live_usage_post_each_difference_once(
    api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    await api.price(model, "0.001")
    await charge(api.database, *(tokens(mandate, model, 1 + number) for number in range(3000)))
    await api.price(model, "0.002")
    live = [tokens(mandate, model, 5) for _ in range(40)]

    async def use() -> None:
        for record in live:
            await charge(api.database, record)

    done = await asyncio.gather(rerate(api.database, of_model(model)), rerate(api.database, of_model(model)), use())
    assert done[0]["differing"] + done[1]["differing"] == 3000
    assert len(await corrections(books, mandate)) == 3000
    assert await books.rollups(mandate) == (3000 * 3001 // 2 * 3000 + 40 * 15_000, 3040)
    assert await books.failing() == {}


async def test_a_price_that_changes_while_a_page_waits_counts_for_whoever_comes_after(
    servers: ServerPair, api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    await api.price(model, "0.001")
    await charge(api.database, tokens(mandate, model, 1000))
    await api.price(model, "0.002")
    ordered = await start_rerating(api.database, of_model(model), user_id=None, clock=system_clock)

    async def take_it_back() -> dict[str, Any]:
        await api.price(model, "0.001")
        return await rerate(api.database, of_model(model))

    locking = "SELECT FROM billing.mandates WHERE id = $1 FOR NO KEY UPDATE"
    async with held(servers.admin_dsn, locking, mandate) as lock:
        await lock.begin(carry_out(api.database, ordered["id"]), take_it_back())
        first, second = await lock.release()
    assert (first["state"], second["state"]) == ("DONE", "DONE")
    assert await books.rollups(mandate) == (1_500_000, 1)
    assert await books.failing() == {}


async def test_usage_that_is_cancelled_while_it_is_corrected_comes_back_in_full(
    api: BillingApi, books: Books, mandate: str, model: str
) -> None:
    await api.price(model, "0.001")
    usage = [tokens(mandate, model, 1 + number) for number in range(900)]
    await charge(api.database, *usage)
    for price in ("0.0017", "0.0003", "0.0023"):
        await api.price(model, price)
        part, usage = usage[:300], usage[300:]

        async def cancel(part: Sequence[RawRecord]) -> None:
            for start in range(0, len(part), 20):
                voids = [voided_record(mandate, record.event_id) for record in part[start : start + 20]]
                await charge(api.database, *voids)

        await asyncio.gather(rerate(api.database, of_model(model)), cancel(part))
    assert (await books.pool(mandate), await books.rollups(mandate)) == (0, (0, 0))
    assert await books.failing() == {}


async def test_charges_of_many_pages_and_of_one_moment_are_all_found(
    api: BillingApi, books: Books, mandate: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.billing.corrections.price_charges.PAGE", 7)
    await api.price(model, "0.001")
    others = [tokens(mandate, model, 1, provider="acme", cost={"amount": "1", "currency": "CHF"}) for _ in range(10)]
    await charge(api.database, *(tokens(mandate, model, 1) for _ in range(100)), *others)
    await api.price(model, "0.002")
    assert (await ask(api, preview=True, model=model, provider="anthropic"))["charges"] == 100
    done = await rerate(api.database, of_model(model, provider="anthropic"))
    assert (done["charges"], done["differing"]) == (100, 100)
    assert await books.failing() == {}


async def test_pages_of_many_mandates_post_of_each_what_the_preview_says(
    api: BillingApi, books: Books, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each part there are mandates of every kind, and pages begin and end within one."""
    monkeypatch.setattr("services.billing.corrections.price_charges.PAGE", 8)
    mandates = [new_mandate() for _ in range(6 * PARTS)]
    await api.price(model, "0.001")
    for mandate in mandates:
        await api.directory(mandate, {"user-0": ["member"], "user-1": ["member"]})
        await charge(api.database, *(tokens(mandate, model, 1 + number, f"user-{number % 2}") for number in range(5)))
    numbers = [await books.value("SELECT no FROM mandates WHERE id = $1", mandate) for mandate in mandates]
    by_part = [
        [name for name, no in zip(mandates, numbers, strict=True) if no % PARTS == part] for part in range(PARTS)
    ]
    cancelled, switched, corrected = zip(*[names[:3] for names in by_part], strict=True)
    for mandate in cancelled:
        usage = tokens(mandate, model, 7)
        await charge(api.database, usage)
        await charge(api.database, voided_record(mandate, usage.event_id))
    for mandate in switched:
        await api.switch(mandate, "PREPAY_USER")
    await api.price(model, "0.0013")
    await rerate(api.database, of_model(model))
    for mandate in corrected:
        await charge(api.database, tokens(mandate, model, 7))
    await api.price(model, "0.0007")
    preview = await ask(api, preview=True, model=model)
    assert (preview["charges"], preview["differing"]) == (len(mandates) * 5 + PARTS, len(mandates) * 5 + PARTS)
    done = await rerate(api.database, of_model(model))

    def by_mandate(answer: dict[str, Any]) -> dict[str, Any]:
        return {each["mandateId"]: each for each in answer["mandates"]}

    assert by_mandate(done) == by_mandate(preview)
    assert by_mandate(done).keys() == set(mandates)
    for mandate in mandates:
        assert await books.rollups(mandate) == ((23_100, 6) if mandate in corrected else (15_750, 5))
    assert await books.failing() == {}


async def test_workers_take_different_parts_and_each_goes_on_with_its_own(
    servers: ServerPair, api: BillingApi, model: str
) -> None:
    ordered = await start_rerating(api.database, of_model(model), user_id=None, clock=system_clock)
    rerating, nobody = UUID(ordered["id"]), (uuid4(), 0)
    async with opened(servers.dsn("billing"), pool_size=PARTS) as database, AsyncExitStack() as workers:
        taken = []
        for _ in range(PARTS):
            connection = await workers.enter_async_context(database.transaction())
            running = await lock_part(connection, rerating, nobody)
            assert running is not None
            taken.append(running.part.number)
        assert sorted(taken) == list(range(PARTS))
        async with api.database.transaction() as connection:
            assert await lock_part(connection, rerating, nobody) is None
    for part in (2, 0, 3):
        async with api.database.transaction() as connection:
            running = await lock_part(connection, rerating, (rerating, part))
            assert running is not None
            assert running.part.number == part
    assert (await carry_out(api.database, ordered["id"]))["state"] == "DONE"


async def test_a_part_that_waits_for_a_mandate_keeps_its_worker_from_no_other(
    servers: ServerPair, api: BillingApi, books: Books, model: str
) -> None:
    mandates = [new_mandate() for _ in range(2 * PARTS)]
    await api.price(model, "0.001")
    for each in mandates:
        await charge(api.database, tokens(each, model, 1000))
    await api.price(model, "0.002")
    numbers = {each: await books.value("SELECT no FROM mandates WHERE id = $1", each) for each in mandates}
    ordered = await start_rerating(api.database, of_model(model), user_id=None, clock=system_clock)
    # Two parts, those that a worker takes first.
    stuck = [each for each in mandates if numbers[each] % PARTS < 2]
    locking = "SELECT FROM billing.mandates WHERE id = ANY($1) ORDER BY no FOR NO KEY UPDATE"
    run, failures = running(api.database), 0
    async with held(servers.admin_dsn, locking, stuck):
        for _ in range(PARTS):
            try:
                await run(UUID(ordered["id"]))
            except LockNotAvailableError:
                failures += 1
        assert failures == 2
        for each in mandates:
            assert bool(await corrections(books, each)) is (each not in stuck)
    assert (await carry_out(api.database, ordered["id"]))["differing"] == len(mandates)
    assert await books.failing() == {}


async def test_the_last_parts_end_a_re_rating_also_where_they_end_at_once(api: BillingApi, model: str) -> None:
    ordered = await start_rerating(api.database, of_model(model), user_id=None, clock=system_clock)
    rerating = UUID(ordered["id"])
    done = await asyncio.gather(*(running(api.database)(rerating) for _ in range(PARTS)))
    while any(done):
        done = await asyncio.gather(*(running(api.database)(rerating) for _ in range(PARTS)))
    assert (await show_rerating(api.database, ordered["id"]))["state"] == "DONE"


async def test_a_page_that_was_read_ahead_counts_for_nothing_once_it_is_another_turn(
    api: BillingApi, books: Books, mandate: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.billing.corrections.price_charges.PAGE", 10)
    await api.price(model, "0.001")
    usage = [tokens(mandate, model, 1) for _ in range(60)]
    await charge(api.database, *usage)
    await api.price(model, "0.002")
    ordered = await start_rerating(api.database, of_model(model), user_id=None, clock=system_clock)
    rerating, first, second = UUID(ordered["id"]), running(api.database), running(api.database)
    while not await corrections(books, mandate):
        assert await first(rerating) == 1
    # What the first has read by now is corrected by the second, cancelled, and then priced anew.
    assert await second(rerating) == 1
    assert await first(rerating) == 1
    await charge(api.database, *(voided_record(mandate, record.event_id) for record in usage))
    assert await first(rerating) == 1
    await api.price(model, "0.003")
    while await first(rerating):
        pass
    done = await show_rerating(api.database, ordered["id"])
    assert (done["state"], await books.pool(mandate), await books.rollups(mandate)) == ("DONE", 0, (0, 0))
    assert await books.failing() == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**MAY}, "preview"),
        ({**MAY, "preview": "yes"}, "preview"),
        ({"to": MAY["to"], "preview": True}, "from"),
        ({"from": MAY["from"], "to": MAY["from"], "preview": True}, "to"),
        ({**MAY, "from": "1999-01-01T00:00:00Z", "preview": True}, "from"),
        ({**MAY, "from": "2026-05-01T00:00:00", "preview": True}, "from"),
        ({**MAY, "preview": True, "model": ""}, "model"),
        ({**MAY, "preview": True, "provider": "a\u0000"}, "provider"),
        ({**MAY, "preview": True, "provider": 5}, "provider"),
        ({**MAY, "preview": True, "modell": "gpt"}, "modell"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_its_field(api: BillingApi, body: dict[str, Any], field: str) -> None:
    refused = await api.call(system_admin(), "POST", PATH, json=body)
    assert refused.status_code == 422, refused.text
    assert [fault["field"] for fault in refused.json()["errors"]] == [field]


async def test_only_a_system_administrator_may(api: BillingApi, mandate: str) -> None:
    for caller in (admin_of(mandate), member_of(mandate), checker({"usage:write": True})):
        answer = await api.call(caller, "POST", PATH, json={**MAY, "preview": True})
        assert answer.status_code == 403
        assert (await api.call(caller, "GET", f"{PATH}/{uuid4()}")).status_code == 403


@pytest.mark.parametrize("rerating", ["nothing", "6cbf98a9-2260-4fb4-b283-b03087a5ed54"])
async def test_a_re_rating_that_is_not_there_is_unknown(api: BillingApi, rerating: str) -> None:
    refused = await api.call(system_admin(), "GET", f"{PATH}/{rerating}")
    assert (refused.status_code, refused.json()["code"]) == (404, "RERATING_UNKNOWN")


async def test_a_key_orders_one_re_rating_however_often_it_is_sent(api: BillingApi, model: str) -> None:
    body, key = {**MAY, "model": model, "preview": False}, {"Idempotency-Key": str(uuid4())}
    answers = [await api.call(system_admin(), "POST", PATH, json=body, headers=key) for _ in range(2)]
    at_once = [api.call(system_admin(), "POST", PATH, json=body, headers=key) for _ in range(4)]
    answers += await asyncio.gather(*at_once)
    assert {answer.status_code for answer in answers} == {200}
    (rerating_id,) = {answer.json()["id"] for answer in answers}
    await carry_out(api.database, rerating_id)
    # A repeat says how far it is by then; a preview is no order, and without a key each is another one.
    again = await api.call(system_admin(), "POST", PATH, json=body, headers=key)
    assert (again.json()["id"], again.json()["state"]) == (rerating_id, "DONE")
    preview = await api.call(system_admin(), "POST", PATH, json={**body, "preview": True}, headers=key)
    assert (preview.status_code, preview.json()["state"]) == (200, "PREVIEW")
    other = await api.call(system_admin(), "POST", PATH, json={**body, "model": "another"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    assert (await ask(api, preview=False, model=model))["id"] != rerating_id


async def test_nothing_to_do_is_nothing_done(api: BillingApi) -> None:
    assert await running(api.database)(uuid4()) == 0
