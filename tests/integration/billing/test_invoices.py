"""A month of CREDIT_POSTPAY becomes one invoice; what comes later is on the next one, and nothing on two."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from rappen_contracts.subscription.v1 import Plan
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.payment_events import CreditPayments, RefundPayments
from services.billing.invoices.close_months import CloseMonths
from services.billing.invoices.errors import NoSeller
from services.billing.settings import InvoiceSettings
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from tests.integration.billing.conftest import BillingApi
from tests.support.databases import connected
from tests.support.facts import money, paid, refunded, subscription
from tests.support.invoicing import INVOICES, Postpaid
from tests.support.ledger import Books
from tests.support.processes import run_command
from tests.support.rerating import of_model, rerate
from tests.support.stack import ServerPair

# In Europe/Zurich, in summer.
JULY = datetime(2026, 6, 30, 22, tzinfo=UTC)
AUGUST, SEPTEMBER = datetime(2026, 7, 31, 22, tzinfo=UTC), datetime(2026, 8, 31, 22, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TICK = timedelta(microseconds=1)


@pytest.fixture
async def postpaid(database: Database) -> Postpaid:
    return await Postpaid(database, JULY).begin()


def amounts(invoice: dict[str, Any]) -> dict[str, str]:
    """Net amount, VAT and total."""
    return {name: invoice[name]["amount"] for name in ("net", "vat", "total")}


def lines(invoice: dict[str, Any]) -> list[tuple[str, str, str, str, int, str]]:
    """What the lines are, from and to which day, how often, and their amounts."""
    return [
        (
            each["kind"],
            each["model"] or "",
            each["firstDay"],
            each["lastDay"],
            each["count"],
            each["amount"]["amount"],
        )
        for each in invoice["lines"]
    ]


async def test_a_month_becomes_one_invoice_by_provider_model_and_feature(postpaid: Postpaid, books: Books) -> None:
    await postpaid.use("60", at=JULY)
    postpaid.now = AUGUST - TICK
    await postpaid.use("40", at=AUGUST - TICK)
    await postpaid.use("6.3", model="gpt-5", provider="openai", feature_instance_id="inst-1")
    await postpaid.use("1.8", model="gpt-5", provider="openai", feature_instance_id="inst-2")
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.use("9", at=AUGUST)
    assert await postpaid.close(2026, 7)
    (invoice,) = await postpaid.invoices()
    assert lines(invoice) == [
        ("USAGE", "claude-sonnet-4-5", "2026-07-01", "2026-07-31", 2, "100.000000"),
        ("USAGE", "gpt-5", "2026-07-31", "2026-07-31", 1, "6.300000"),
        ("USAGE", "gpt-5", "2026-07-31", "2026-07-31", 1, "1.800000"),
    ]
    assert [each["featureInstanceId"] for each in invoice["lines"]] == [None, "inst-1", "inst-2"]
    assert amounts(invoice) == {"net": "100.000000", "vat": "8.100000", "total": "108.100000"}
    assert (invoice["vatPercent"], invoice["periodStart"], invoice["periodEnd"]) == ("8.1", "2026-07-01", "2026-07-31")
    assert (invoice["state"], invoice["cause"], invoice["recipient"]["company"]) == ("OPEN", "MONTH", "Acme AG")
    assert invoice["number"].startswith("2026-")
    assert invoice["dueAt"] == postpaid.now + 30 * DAY
    assert await books.failing() == {}


async def test_its_event_says_all_of_it(postpaid: Postpaid) -> None:
    await postpaid.use("108.10")
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    (invoice,), (event,) = await postpaid.invoices(), await postpaid.issued()
    assert (str(event.invoice_id), event.number) == (invoice["id"], invoice["number"])
    assert (event.period_start, event.period_end) == (JULY, AUGUST)
    assert (event.issued_at, event.due_at) == (postpaid.now, postpaid.now + 30 * DAY)
    assert (event.net.amount, event.vat.amount, event.total.amount, event.vat_percent) == (
        Decimal(100),
        Decimal("8.1"),
        Decimal("108.1"),
        Decimal("8.1"),
    )
    assert sum(line.net.amount for line in event.lines) == event.net.amount
    assert event.lines[0].description == "AI-Nutzung · anthropic · claude-sonnet-4-5 · chat"
    assert (event.recipient.company, event.recipient.vat_number) == ("Acme AG", "CHE-987.654.321 MWST")
    assert event.language == "de"


async def test_a_month_is_closed_once_however_many_are_at_it(postpaid: Postpaid, books: Books) -> None:
    await postpaid.use("3")
    postpaid.now = AUGUST + 2 * HOUR
    done = await asyncio.gather(*(postpaid.close(2026, 7) for _ in range(5)))
    assert sorted(done) == [False, False, False, False, True]
    assert not await postpaid.close(2026, 7)
    (invoice,) = await postpaid.invoices()
    assert amounts(invoice)["total"] == "3.000000"
    assert len(await postpaid.issued()) == 1
    assert await books.failing() == {}


async def test_late_usage_and_corrections_are_on_the_next_one_with_their_own_days(
    postpaid: Postpaid, books: Books
) -> None:
    taken_back = await postpaid.use("10")
    await postpaid.use("20", model="other")
    at_once = await postpaid.use("7", model="other")
    await postpaid.reverse(at_once)
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    postpaid.now = AUGUST + 5 * DAY
    await postpaid.use("1", at=JULY + DAY)
    await postpaid.use("50")
    await postpaid.reverse(taken_back)
    postpaid.now = SEPTEMBER + 2 * HOUR
    await postpaid.close(2026, 8)
    first, second = await postpaid.invoices()
    assert lines(first) == [
        ("USAGE", "claude-sonnet-4-5", "2026-07-01", "2026-07-01", 1, "10.000000"),
        ("USAGE", "other", "2026-07-01", "2026-07-01", 1, "20.000000"),
    ]
    assert lines(second) == [
        ("USAGE", "claude-sonnet-4-5", "2026-07-02", "2026-07-02", 1, "1.000000"),
        ("USAGE", "claude-sonnet-4-5", "2026-08-06", "2026-08-06", 1, "50.000000"),
        ("CORRECTION", "claude-sonnet-4-5", "2026-07-01", "2026-07-01", -1, "-10.000000"),
    ]
    assert [amounts(each)["total"] for each in (first, second)] == ["30.000000", "41.000000"]
    asked = sum(int(Decimal(amounts(each)["total"]) * 10**6) for each in (first, second))
    assert asked == (await books.rollups(postpaid.id))[0] == -await books.pool(postpaid.id)
    assert await books.failing() == {}


async def test_rounding_goes_on_to_the_next_one(postpaid: Postpaid, books: Books) -> None:
    totals, carried = [], []
    for month, begins in ((7, JULY), (8, AUGUST), (9, SEPTEMBER)):
        postpaid.now = begins + DAY
        await postpaid.use("1.004001")
        postpaid.now = begins + 32 * DAY
        assert await postpaid.close(2026, month)
        invoice = (await postpaid.invoices())[-1]
        totals.append(amounts(invoice)["total"])
        carried.append((invoice["carryBefore"]["amount"], invoice["carryAfter"]["amount"]))
    assert totals == ["1.000000", "1.010000", "1.000000"]
    assert carried == [("0.000000", "0.004001"), ("0.004001", "-0.001998"), ("-0.001998", "0.002003")]
    assert await books.failing() == {}


async def test_a_month_without_usage_has_none_and_too_little_waits(postpaid: Postpaid, books: Books) -> None:
    postpaid.now = AUGUST + 2 * HOUR
    assert await postpaid.close(2026, 7)
    assert await postpaid.invoices() == []
    await postpaid.use("0.49")
    postpaid.now = SEPTEMBER + 2 * HOUR
    assert await postpaid.close(2026, 8)
    assert await postpaid.invoices() == []
    await postpaid.use("0.01")
    postpaid.now = SEPTEMBER + 31 * DAY
    assert await postpaid.close(2026, 9)
    (invoice,) = await postpaid.invoices()
    assert lines(invoice) == [
        ("USAGE", "claude-sonnet-4-5", "2026-08-01", "2026-08-01", 1, "0.490000"),
        ("USAGE", "claude-sonnet-4-5", "2026-09-01", "2026-09-01", 1, "0.010000"),
    ]
    assert await books.failing() == {}


async def test_what_was_given_and_what_was_paid_already_are_deducted(postpaid: Postpaid, books: Books) -> None:
    await CreditPayments(postpaid.database, clock=postpaid.clock)([paid(postpaid.id, 5)], [])
    plan = Plan(key="TEAM", budget=money(20))
    given = subscription(
        postpaid.id, uuid4(), 1, "ACTIVE", plan=plan, at=JULY, period_end=JULY + 300 * DAY, budget_due=True
    )
    await ApplySubscription(postpaid.database, clock=postpaid.clock)([given], [])
    await postpaid.use("12")
    await postpaid.use("30")
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.use("100")
    await postpaid.close(2026, 7)
    (invoice,) = await postpaid.invoices()
    assert [(each[0], each[4], each[5]) for each in lines(invoice)] == [
        ("USAGE", 2, "42.000000"),
        ("BUDGET", 0, "-20.000000"),
        ("CREDIT", 0, "-5.000000"),
    ]
    assert amounts(invoice)["total"] == "17.000000"
    await postpaid.pay(invoice["id"], "17")
    # What is left is the usage of the month that has begun.
    assert await books.pool(postpaid.id) == -100_000_000
    assert await books.failing() == {}


async def test_a_budget_that_covers_a_debt_at_once_is_deducted_from_the_next_one(
    postpaid: Postpaid, books: Books
) -> None:
    await postpaid.use("50")
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    given = subscription(postpaid.id, uuid4(), 1, "ACTIVE", at=AUGUST, period_end=AUGUST + 300 * DAY, budget_due=True)
    await ApplySubscription(postpaid.database, clock=postpaid.clock)([given], [])
    await postpaid.use("30")
    postpaid.now = SEPTEMBER + 2 * HOUR
    await postpaid.close(2026, 8)
    first, second = await postpaid.invoices()
    assert (amounts(first)["total"], amounts(second)["total"]) == ("50.000000", "10.000000")
    for invoice in (first, second):
        await postpaid.pay(invoice["id"], amounts(invoice)["total"])
    assert await books.pool(postpaid.id) == 0
    assert await books.failing() == {}


async def test_usage_that_credit_pays_has_an_invoice_of_nothing(postpaid: Postpaid, books: Books) -> None:
    await CreditPayments(postpaid.database, clock=postpaid.clock)([paid(postpaid.id, 100)], [])
    await postpaid.use("12")
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    (invoice,) = await postpaid.invoices()
    assert [(each[0], each[5]) for each in lines(invoice)] == [("USAGE", "12.000000"), ("CREDIT", "-12.000000")]
    assert amounts(invoice) == {"net": "0.000000", "vat": "0.000000", "total": "0.000000"}
    assert (invoice["state"], invoice["open"]["amount"]) == ("PAID", "0.000000")
    assert await books.pool(postpaid.id) == 88_000_000
    assert await books.failing() == {}


async def test_what_is_taken_by_hand_is_asked_for_once(postpaid: Postpaid, books: Books) -> None:
    await postpaid.deduct("50")
    await postpaid.use("20")
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    (first,) = await postpaid.invoices()
    assert lines(first) == [
        ("BALANCE", "", "2026-07-01", "2026-07-31", 0, "50.000000"),
        ("USAGE", "claude-sonnet-4-5", "2026-07-01", "2026-07-01", 1, "20.000000"),
    ]
    assert first["total"]["amount"] == "70.000000"
    # Neither again while it is open, nor what was taken by mistake and given back; also where nothing was used.
    await postpaid.deduct("9")
    await postpaid.deduct("-7")
    postpaid.now = SEPTEMBER + 2 * HOUR
    await postpaid.close(2026, 8)
    second = (await postpaid.invoices())[1]
    assert [(each[0], each[5]) for each in lines(second)] == [("BALANCE", "2.000000")]
    for invoice in (first, second):
        await postpaid.pay(invoice["id"], amounts(invoice)["total"])
    assert await books.pool(postpaid.id) == 0
    assert await books.failing() == {}


async def test_a_debt_from_before_and_a_credit_that_went_back_are_asked_for(database: Database, books: Books) -> None:
    postpaid = await Postpaid(database, JULY).begin(model="PREPAY_MANDATE", defaultUserCredit=Decimal(0))
    await postpaid.use("4.004")
    await postpaid.switch("CREDIT_POSTPAY")
    top_up = paid(postpaid.id, 30, stripe_payment_intent_id="pi_credit")
    await CreditPayments(database, clock=postpaid.clock)([top_up], [])
    await postpaid.use("40")
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    back = refunded(postpaid.id, 30, stripe_payment_intent_id="pi_credit")
    await RefundPayments(database, clock=postpaid.clock)([back], [])
    await postpaid.use("1")
    # Not at a switch: in the other model a top-up or a recharge covers it.
    await postpaid.switch("PREPAY_MANDATE")
    first, switched = await postpaid.invoices()
    assert [(each[0], each[5]) for each in lines(switched)] == [("USAGE", "1.000000")]
    await postpaid.switch("CREDIT_POSTPAY")
    postpaid.now = SEPTEMBER + 2 * HOUR
    await postpaid.close(2026, 8)
    second = (await postpaid.invoices())[2]
    assert [(each[0], each[5]) for each in lines(first)] == [("USAGE", "40.000000"), ("CREDIT", "-25.990000")]
    assert [(each[0], each[5]) for each in lines(second)] == [("BALANCE", "29.990000")]
    for invoice in (first, switched, second):
        await postpaid.pay(invoice["id"], amounts(invoice)["total"])
    assert await books.pool(postpaid.id) == -4_000
    assert await books.failing() == {}


async def test_leaving_the_model_closes_the_period_at_once(postpaid: Postpaid, books: Books) -> None:
    await postpaid.use("0.01")
    postpaid.now = JULY + 19 * DAY
    await postpaid.use("11.99")
    await postpaid.switch("PREPAY_MANDATE")
    (invoice,) = await postpaid.invoices()
    assert (invoice["cause"], invoice["periodEnd"], amounts(invoice)["total"]) == ("SWITCH", "2026-07-20", "12.000000")
    # The balance stays where it is until the invoice is paid, and prepaid usage is on no invoice.
    assert await books.pool(postpaid.id) == -12_000_000
    await postpaid.use("5")
    await postpaid.pay(invoice["id"], "12")
    assert await books.pool(postpaid.id) == -5_000_000
    postpaid.now = AUGUST + 2 * HOUR
    assert not await postpaid.close(2026, 7)
    assert len(await postpaid.invoices()) == 1
    assert await books.failing() == {}


async def test_coming_back_begins_anew(postpaid: Postpaid, books: Books) -> None:
    await postpaid.use("2")
    await postpaid.switch("PREPAY_MANDATE")
    prepaid = await postpaid.use("100")
    await postpaid.pay((await postpaid.invoices())[0]["id"], "2")
    postpaid.now = JULY + 20 * DAY
    await postpaid.switch("CREDIT_POSTPAY")
    await postpaid.use("7")
    # What takes prepaid usage back is on no invoice; the money is on the pool, and is deducted.
    await postpaid.reverse(prepaid)
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    first, second = await postpaid.invoices()
    assert [each[0] for each in lines(second)] == ["USAGE"]
    assert (amounts(first)["total"], amounts(second)["total"]) == ("2.000000", "7.000000")
    await postpaid.pay(second["id"], "7")
    assert await books.pool(postpaid.id) == 0
    assert await books.failing() == {}


async def test_a_switch_back_and_forth_without_usage_has_no_invoice(postpaid: Postpaid, books: Books) -> None:
    await postpaid.set(defaultUserCredit=Decimal(0))
    for model in ("PREPAY_MANDATE", "CREDIT_POSTPAY", "PREPAY_USER", "CREDIT_POSTPAY", "UNLIMITED", "CREDIT_POSTPAY"):
        await postpaid.switch(model)  # type: ignore[arg-type]
    await postpaid.use("3")
    await postpaid.switch("UNLIMITED")
    await postpaid.use("4")
    (invoice,) = await postpaid.invoices()
    assert amounts(invoice)["total"] == "3.000000"
    assert await books.failing() == {}


async def test_a_payment_settles_it_and_the_balance(postpaid: Postpaid, books: Books) -> None:
    await postpaid.use("12.004")
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    (invoice,) = await postpaid.invoices()
    assert await postpaid.pay(invoice["id"], "4", stripe_payment_intent_id="pi_1") == []
    assert await postpaid.pay(invoice["id"], "4", stripe_payment_intent_id="pi_1", cause="again") == []
    (partly,) = await postpaid.invoices()
    assert (partly["state"], partly["paid"]["amount"], partly["open"]["amount"], partly["paidAt"]) == (
        "PARTLY_PAID",
        "4.000000",
        "8.000000",
        None,
    )
    await postpaid.pay(invoice["id"], "8")
    (settled,) = await postpaid.invoices()
    assert (settled["state"], settled["open"]["amount"]) == ("PAID", "0.000000")
    assert settled["paidAt"] is not None
    assert await books.pool(postpaid.id) == -4_000
    await postpaid.refund(invoice["id"], "8")
    (reopened,) = await postpaid.invoices()
    assert (reopened["state"], reopened["open"]["amount"]) == ("PARTLY_PAID", "8.000000")
    assert await books.pool(postpaid.id) == -8_004_000
    assert await books.failing() == {}


async def test_what_was_paid_too_much_is_deducted_from_the_next_one(postpaid: Postpaid, books: Books) -> None:
    await postpaid.use("12")
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    (invoice,) = await postpaid.invoices()
    await postpaid.pay(invoice["id"], "20")
    assert (await postpaid.invoices())[0]["state"] == "OVERPAID"
    await postpaid.use("30")
    postpaid.now = SEPTEMBER + 2 * HOUR
    await postpaid.close(2026, 8)
    second = (await postpaid.invoices())[1]
    assert [(each[0], each[5]) for each in lines(second)] == [("USAGE", "30.000000"), ("CREDIT", "-8.000000")]
    await postpaid.pay(second["id"], "22")
    assert await books.pool(postpaid.id) == 0
    assert await books.failing() == {}


async def test_money_for_an_invoice_that_is_not_there_is_credited(postpaid: Postpaid, books: Books) -> None:
    other = await Postpaid(postpaid.database, JULY).begin()
    await other.use("9")
    other.now = AUGUST + 2 * HOUR
    await other.close(2026, 7)
    (foreign,) = await other.invoices()
    for reference in (str(uuid4()), "no id at all", foreign["id"]):
        assert await postpaid.pay(reference, "3") == []
    assert await books.pool(postpaid.id) == 9_000_000
    assert (await other.invoices())[0]["state"] == "OPEN"
    assert await books.failing() == {}


async def test_without_vat_abroad_and_at_the_rate_of_its_time(database: Database) -> None:
    abroad = await Postpaid(database, JULY).begin(billingAddress={"company": "X", "country": "DE"})
    old = await Postpaid(database, datetime(2023, 12, 5, tzinfo=UTC)).begin()
    for each in (abroad, old):
        await each.use("107.70")
        each.later(days=30)
        await each.close(each.now.year - (each.now.month == 1), 12 if each is old else 7)
    (invoice,) = await abroad.invoices()
    assert (invoice["vatPercent"], *amounts(invoice).values()) == ("0", "107.700000", "0.000000", "107.700000")
    (invoice,) = await old.invoices()
    assert (invoice["vatPercent"], *amounts(invoice).values()) == ("7.7", "100.000000", "7.700000", "107.700000")


async def test_months_are_closed_by_the_job_in_each_calendar(database: Database, books: Books) -> None:
    begin = datetime(2026, 3, 5, tzinfo=UTC)
    zones = ("Pacific/Kiritimati", "Europe/Zurich", "America/St_Johns", "Pacific/Pago_Pago")
    ends = [
        datetime(2026, 3, 31, 10, tzinfo=UTC),
        datetime(2026, 3, 31, 22, tzinfo=UTC),
        datetime(2026, 4, 1, 2, 30, tzinfo=UTC),
        datetime(2026, 4, 1, 11, tzinfo=UTC),
    ]
    mandates = []
    for zone, end in zip(zones, ends, strict=True):
        mandate = Postpaid(database, begin)
        # A new zone counts from the next month on, so it was set long ago.
        mandate.now = begin - 90 * DAY
        await mandate.begin(model="PREPAY_MANDATE", timeZone=zone)
        mandate.now = begin
        await mandate.switch("CREDIT_POSTPAY")
        mandate.now = end
        await mandate.use("1", at=end - TICK)
        await mandate.use("2", at=end)
        mandates.append(mandate)
    for number, end in enumerate(ends):
        for now, there in ((end + HOUR - TICK, number), (end + HOUR, number + 1)):
            job = CloseMonths(database, settings=INVOICES, clock=lambda now=now: now, faults=FaultPoints(None))  # type: ignore[misc]
            while await job():
                pass
            found = [len(await each.invoices()) for each in mandates]
            assert found == [1] * there + [0] * (len(mandates) - there)
    for mandate in mandates:
        (invoice,) = await mandate.invoices()
        assert (lines(invoice)[0][3], amounts(invoice)["total"]) == ("2026-03-31", "1.000000")
    # Months that nobody looked at are closed one by one.
    late = datetime(2026, 6, 30, 23, tzinfo=UTC) + DAY
    mandates[1].now = datetime(2026, 5, 20, tzinfo=UTC)
    await mandates[1].use("4")
    job = CloseMonths(database, settings=INVOICES, clock=lambda: late, faults=FaultPoints(None))
    while await job():
        pass
    ends_of = [(each["periodEnd"], amounts(each)["total"]) for each in await mandates[1].invoices()]
    assert ends_of == [("2026-03-31", "1.000000"), ("2026-04-30", "2.000000"), ("2026-05-31", "4.000000")]
    assert await books.failing() == {}


async def test_one_mandate_that_cannot_be_closed_holds_up_no_other(database: Database) -> None:
    begin = datetime(2025, 3, 5, tzinfo=UTC)
    mandates = [await Postpaid(database, begin).begin() for _ in range(2)]
    for mandate in mandates:
        await mandate.use("5")
    no_seller = InvoiceSettings()
    clock = begin + 30 * DAY
    job = CloseMonths(database, settings=no_seller, clock=lambda: clock, faults=FaultPoints(None))
    with pytest.raises(NoSeller):
        await job()
    assert [await each.invoices() for each in mandates] == [[], []]
    job = CloseMonths(database, settings=INVOICES, clock=lambda: clock, faults=FaultPoints(None))
    assert await job() == 2
    assert [len(await each.invoices()) for each in mandates] == [1, 1]


async def test_without_a_seller_the_model_cannot_be_left_while_something_is_due(
    database: Database, books: Books
) -> None:
    mandate = await Postpaid(database, JULY, settings=InvoiceSettings()).begin()
    await mandate.use("5")
    with pytest.raises(NoSeller):
        await mandate.switch("PREPAY_MANDATE")
    assert await mandate.invoices() == []
    mandate.settings = INVOICES
    await mandate.switch("PREPAY_MANDATE")
    (invoice,) = await mandate.invoices()
    assert (amounts(invoice)["total"], invoice["periodStart"]) == ("5.000000", "2026-07-01")
    assert await books.failing() == {}


async def test_numbers_have_no_gap_under_concurrent_closings(database: Database, books: Books) -> None:
    mandates = []
    for _ in range(20):
        mandate = await Postpaid(database, JULY).begin()
        await mandate.use("2")
        mandate.now = AUGUST + 2 * HOUR
        mandates.append(mandate)
    await asyncio.gather(*(each.close(2026, 7) for each in mandates))
    found = [each["number"] for mandate in mandates for each in await mandate.invoices()]
    numbers = sorted(int(each.removeprefix("2026-")) for each in found)
    assert numbers == list(range(numbers[0], numbers[0] + 20))
    assert await books.failing() == {}


@pytest.mark.parametrize("table", ["invoices", "invoice_lines", "invoice_payments", "invoice_documents", "vat_rates"])
async def test_the_service_cannot_change_what_was_issued(servers: ServerPair, table: str) -> None:
    async with connected(servers.dsn("billing"), schema="billing") as connection:
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        name = await connection.fetchval(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'billing' AND table_name = $1",
            table,
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"UPDATE {table} SET {name} = {name}")


async def test_what_is_priced_again_is_on_the_next_one(api: BillingApi, books: Books) -> None:
    model = f"model-{uuid4()}"
    await api.price(model, "0.001")
    mandate = await Postpaid(api.database, JULY).begin()
    await mandate.use("0", model=model, cost=None, tokens={"input": 10_000})
    mandate.now = AUGUST + 2 * HOUR
    await mandate.close(2026, 7)
    await api.price(model, "0.0012")
    await rerate(api.database, of_model(model))
    await mandate.use("5")
    mandate.now = SEPTEMBER + 2 * HOUR
    await mandate.close(2026, 8)
    first, second = await mandate.invoices()
    assert amounts(first)["total"] == "10.000000"
    assert [(each[0], each[2], each[4], each[5]) for each in lines(second)] == [
        ("USAGE", "2026-08-01", 1, "5.000000"),
        ("CORRECTION", "2026-07-01", 0, "2.000000"),
    ]
    assert await books.failing() == {}


async def test_round_numbers_have_no_exponent(postpaid: Postpaid) -> None:
    await postpaid.use("1E+4")
    await postpaid.use("20000.00", model="other")
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    (invoice,) = await postpaid.invoices()
    assert [each[5] for each in lines(invoice)] == ["10000.000000", "20000.000000"]
    assert amounts(invoice)["total"] == "30000.000000"


async def test_more_than_a_billion_is_asked_for(postpaid: Postpaid, books: Books) -> None:
    """One charge has less than a billion; a month, or what a switch closes, may have more."""
    for _ in range(2):
        await postpaid.use("900000000")
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    await postpaid.use("999999999")
    await postpaid.use("999999999")
    await postpaid.switch("PREPAY_MANDATE")
    totals = ["1800000000.000000", "1999999998.000000"]
    assert [amounts(each)["total"] for each in await postpaid.invoices()] == totals
    assert [f"{each.total.amount:f}" for each in await postpaid.issued()] == totals
    assert await books.failing() == {}


async def test_each_part_that_was_paid_of_an_invoice_is_listed_for_comparing(
    postpaid: Postpaid, servers: ServerPair
) -> None:
    await postpaid.use("108.1")
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    (invoice,) = await postpaid.invoices()
    await postpaid.pay(invoice["id"], "88.1")
    await postpaid.pay(invoice["id"], "20", stripe_payment_intent_id=None)
    assert (await postpaid.invoices())[0]["state"] == "PAID"
    listed = run_command(servers, "billing", "payments", "--since", JULY.isoformat())
    assert sorted(json.loads(listed.stdout)["credits"][invoice["id"]]) == ["20.000000", "88.100000"]


async def test_storage_has_a_line_of_its_own(postpaid: Postpaid, books: Books) -> None:
    await postpaid.use("3")
    identity = uuid4()
    plan = Plan(key="TEAM", budget=money(0), max_data_volume_mb=0, storage_price_per_gb_month=money(2))
    period = {"plan": plan, "period_start": JULY, "period_end": AUGUST}
    apply = ApplySubscription(postpaid.database, clock=postpaid.clock)
    await apply([subscription(postpaid.id, identity, 1, "ACTIVE", at=JULY, budget_due=True, **period)], [])
    await postpaid.use(
        "0", kind="storage", cost=None, provider=None, model=None, feature_instance_id="i", bytes_in_use=3 * 10**9
    )
    postpaid.now = AUGUST
    await apply([subscription(postpaid.id, identity, 2, "EXPIRED", at=AUGUST, **period)], [])
    postpaid.now = AUGUST + 2 * HOUR
    await postpaid.close(2026, 7)
    (invoice,) = await postpaid.invoices()
    assert [(each[0], each[4], each[5]) for each in lines(invoice)] == [
        ("USAGE", 1, "3.000000"),
        ("STORAGE", 1, "6.000000"),
    ]
    assert await books.failing() == {}


async def test_rates_of_vat_are_added_by_the_operator(servers: ServerPair, database: Database) -> None:
    def vat(*words: str) -> tuple[int, str]:
        done = run_command(servers, "billing", "vat", *words)
        return done.returncode, done.stdout + done.stderr

    assert "CH  from 2024-01-01  8.1 %" in vat("list")[1]
    assert vat("add", "AT", "2025-01-01", "20") == (0, "AT: 20 % from 2025-01-01\n")
    assert vat("add", "AT", "2025-01-01", "21")[0] == 1
    for words in (("ch", "2025-01-01", "20"), ("CH", "today", "20"), ("CH", "2025-01-01", "NaN"), ("CH", "x", "100")):
        assert vat("add", *words)[0] == 2
    # What no invoice could have is a slip, which nobody could take away again.
    for words in (("XX", "2025-01-01", "20"), ("CH", "0228-01-01", "8.8"), ("CH", "2208-01-01", "8.8")):
        assert vat("add", *words)[0] == 2
    for words in (("DE", "2028-01-01", "1_9"), ("DE", "2028-01-01", "١٩"), ("DE", "2028-W01-6", "19")):
        assert vat("add", *words)[0] == 2
    assert "DE" not in vat("list")[1]
    code, told = vat("add", "CH", "2028-01-01", "8.88888")
    assert code == 2
    assert "argument PERCENT: a percentage has at most 4 places after the point" in told
    vienna = await Postpaid(database, JULY).begin(billingAddress={"company": "X", "country": "AT"})
    await vienna.use("12")
    vienna.now = AUGUST + 2 * HOUR
    await vienna.close(2026, 7)
    (invoice,) = await vienna.invoices()
    assert (invoice["vatPercent"], *amounts(invoice).values()) == ("20", "10.000000", "2.000000", "12.000000")
