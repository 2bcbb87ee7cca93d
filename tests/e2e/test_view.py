"""The live view: what it shows, in windows of several sizes, and while things go wrong."""

from datetime import datetime
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from deploy.simulator.pay_page import PayPage
from deploy.simulator.scenario.cast import cast_of
from deploy.simulator.watch import plain
from deploy.simulator.watch.picture import POOL, Account, Audit, Happening, Notice, Picture, Standing, Totals, Worker
from deploy.simulator.watch.screen import screen
from deploy.simulator.watch.standings import movement_in_words, state_in_words

NOW = datetime(2026, 6, 1, 12, 30, 5).astimezone()
PAGE = PayPage("http://127.0.0.1:20003/pay/cs_test_" + "a" * 58, "http://127.0.0.1:20003/pay/12345")


def transaction(**changes: Any) -> dict[str, Any]:
    return {
        "createdAt": "2026-06-01T10:30:00.123456Z",
        "mandateName": "Acme AG",
        "createdByUserId": "anna.keller",
        "aicoreModel": "gpt-5.4",
        "description": "AI Usage: openai",
        "transactionType": "DEBIT",
        "amount": Decimal("0.012345"),
        "inputTokens": 1000,
        "outputTokens": 234,
        **changes,
    }


def account(owner: str, balance: str, *, waits: str | None = None) -> Account:
    return Account("Acme AG", owner, Decimal(balance), Decimal(100), warning=False, waits=waits)


@pytest.fixture
def picture() -> Picture:
    made = Picture("http://127.0.0.1:20001", "http://127.0.0.1:20002", "top up Acme AG, CHF 25", PAGE)
    for at, charges in ((0.0, 100), (2.0, 180)):
        made.count(Totals(charges, Decimal("1.5"), {"NOT_JSON": 2, "TOTAL_MISMATCH": 1}, 4), at)
    made.accounts = [account(POOL, "50"), account("Anna Keller", "-0.5", waits="INSUFFICIENT_BALANCE")]
    top_up = {"aicoreModel": None, "description": "Stripe payment", "transactionType": "CREDIT", "amount": Decimal(25)}
    made.transactions = [transaction(), transaction(**top_up, inputTokens=None, outputTokens=None)] * 30
    made.workers = [Worker("billing-worker-1", 3), Worker("billing-worker-2", None)]
    made.audit = Audit(NOW, checks=5, accounts=22, differences=0)
    return made


def shown(picture: Picture, width: int, height: int) -> list[str]:
    console = Console(file=StringIO(), width=width, height=height, record=True)
    console.print(screen(picture, width=width, height=height), height=height)
    return console.export_text().splitlines()


def test_everything_is_on_a_wide_screen(picture: Picture) -> None:
    lines = shown(picture, 140, 30)
    text = "\n".join(lines)
    assert len(lines) == 30
    for part in (PAGE.url, "40", "180", "1.500000", "Anna Keller", "gpt-5.4", "1,234", "0.012345", "+25.000000"):
        assert part in text
    assert "██████      " in text
    assert "Anna Keller, Acme AG waits: INSUFFICIENT_BALANCE" in text
    assert "billing-worker-1: 3 behind   billing-worker-2: away" in text
    assert "2 x NOT_JSON, 1 x TOTAL_MISMATCH   books: 5 checks of 22 accounts at 12:30:05" in text
    assert lines[-1].startswith("Ctrl-C to stop")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 40), (200, 60)])
def test_a_trouble_and_the_last_line_fit_into_any_window(picture: Picture, width: int, height: int) -> None:
    picture.troubles["gateway"] = "no answer\nat all " * 40
    lines = shown(picture, width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert any(line.startswith("gateway: no answer at all") for line in lines)
    assert lines[-1].startswith("Ctrl-C to stop")


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_page_to_pay_on_is_whole_on_one_line(picture: Picture, width: int) -> None:
    picture.top_up = "top up Nordwind Studio, CHF 25"
    lines = shown(picture, width, 24)
    whole = PAGE.url if width == 140 else PAGE.short
    assert sum(whole in line.split() for line in lines) == 1
    assert max(map(len, lines)) <= width


def test_who_came_while_it_ran_has_a_name_too(picture: Picture) -> None:
    came = cast_of(1).invoiced
    picture.cast = [came]
    picture.transactions = [transaction(mandateName=came.label, createdByUserId=came.members[0].id)]
    assert any(came.members[0].name in line for line in shown(picture, 160, 30))


def test_an_empty_picture_can_be_shown_too() -> None:
    empty = Picture("http://127.0.0.1:1", "http://127.0.0.1:2", "top up")
    assert "events/s" in "\n".join(shown(empty, 80, 24))
    assert plain.summary(empty) == "nothing was seen"


def test_notices_are_shown_for_a_minute(picture: Picture) -> None:
    picture.notices.append(Notice(1_000.0, "billing-worker-1 ended"))
    assert picture.recent_notices(1_030.0) == ["billing-worker-1 ended"]
    assert picture.recent_notices(1_061.0) == []


def test_a_plain_line_tells_the_same_figures(picture: Picture) -> None:
    assert plain.line(picture, NOW) == (
        "12:30:05, 40 events/s, 180 charges, CHF 1.500000, 3 dead letters (NOT_JSON 2, TOTAL_MISMATCH 1), 4 unpriced,"
        " books: 0 differences in 22 accounts, 3 records behind"
    )


DECLINED = Happening(NOW, "Alpina Design", "spent CHF 20.00; its card was DECLINED, so there is no recharge")
FAILURE = Happening(NOW, "", "Alpina Design is recharged: that did not happen within 90 s", failed=True)


def standing(tenant: str, state: str = "active to 30 Dec", *, waits: str | None = None) -> Standing:
    movement = "+20.00 Automatic recharge"
    return Standing(tenant, "STARTER", state, Decimal("1234.5"), warning=False, waits=waits, movement=movement)


@pytest.fixture
def customers(picture: Picture) -> Picture:
    picture.standings = [
        standing("Acme AG"),
        standing("Nordwind Studio", waits="NO_ACTIVE_SUBSCRIPTION"),
        standing("Alpina Design", "ends 1 Jan"),
        *(standing(f"Customer {number}") for number in range(3)),
    ]
    for number in range(20):
        picture.tell(Happening(NOW, "Acme AG", f"earlier {number}"))
    picture.tell(DECLINED)
    picture.ahead_s = 33 * 86_400
    return picture


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (120, 24), (120, 40), (200, 60)])
def test_customers_and_what_happened_to_them_are_on_every_screen(customers: Picture, width: int, height: int) -> None:
    lines = shown(customers, width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    (row,) = [line for line in lines if "Nordwind Studio" in line and "STARTER" in line]
    for part in ("waits: no plan", "1,234.50", "+20.00 Automatic"):
        assert part in row
    assert "ends 1 Jan" in text
    # Newest charges are still there, and so are the figures.
    for part in ("gpt-5.4", "0.012345", "events/s", "12:30:05 Alpina Design: spent CHF 20.00; its card was DECLINED"):
        assert part in text
    assert "33 days ahead" in lines[-1]


def test_what_did_not_happen_says_so_without_colour_too(customers: Picture) -> None:
    customers.tell(FAILURE)
    assert "FAILED: Alpina Design is recharged" in "\n".join(shown(customers, 80, 24))
    assert plain.happening(FAILURE) == (
        "12:30:05 * FAILED: Alpina Design is recharged: that did not happen within 90 s"
    )
    assert plain.happening(DECLINED).startswith("12:30:05 * Alpina Design: spent CHF 20.00; its card was DECLINED")


def test_plain_lines_say_how_a_customer_stands(customers: Picture) -> None:
    told = plain.standing(customers.standings[1]).strip()
    assert told == "Nordwind Studio: STARTER, waits: no plan, active to 30 Dec, CHF 1,234.50, +20.00 Automatic recharge"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("TRIALING", "trial to 5 Dec"),
        ("ACTIVE", "active to 5 Dec"),
        ("CANCELED", "ends 5 Dec"),
        ("EXPIRED", "ended 5 Dec"),
        ("PAST_DUE", "past due"),
        ("PENDING", "not paid yet"),
        ("SOMETHING_NEW", "something_new"),
    ],
)
def test_a_subscription_is_said_in_words(status: str, words: str) -> None:
    subscription = {"status": status, "currentPeriodEnd": "2026-12-05T12:00:00Z"}
    assert state_in_words(subscription, "PREPAY_MANDATE") == words


def test_who_has_no_plan_pays_in_another_way() -> None:
    none = {"status": None, "currentPeriodEnd": None}
    assert state_in_words(none, "CREDIT_POSTPAY") == "paid by invoice"
    assert state_in_words(none, "UNLIMITED") == "no plan"
    assert movement_in_words({"amount": Decimal("-15"), "description": "Refund"}) == "-15.00 Refund"
