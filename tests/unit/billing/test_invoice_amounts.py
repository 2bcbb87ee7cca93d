"""What an invoice asks for, to the last Rappen: its sums, its months, its references."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iso11649
from stdnum.ch import esr

from services.billing.invoices.domain import (
    Draft,
    DraftLine,
    applied_credit,
    brought_forward,
    draft_totals,
    invoice_number,
    is_qr_iban,
    month_over,
    payment_reference,
    payment_state,
    rounded_lines,
    unspent,
)
from services.billing.invoices.texts import TEXTS, describe_line, written_amount, written_percent
from services.billing.ledger.calendars import Calendar

RAPPEN = 10_000
LINE = DraftLine("USAGE", date(2026, 5, 1), date(2026, 5, 31), "openai", "gpt", None, None, 1, 0)

costs = st.lists(st.integers(-(10**9), 10**13), min_size=1, max_size=60)
percents = st.sampled_from([Decimal(0), Decimal("7.7"), Decimal("8.1"), Decimal("2.6"), Decimal("8.8"), Decimal(25)])
carries = st.integers(-RAPPEN // 2, RAPPEN // 2)


def drafted(given_costs: list[int], carry: int = 0) -> Draft:
    return Draft([replace(LINE, cost=cost) for cost in given_costs], carry)


@given(costs, carries, percents)
def test_lines_add_up_to_total_and_net_whatever_they_are(line_costs: list[int], carry: int, percent: Decimal) -> None:
    draft = drafted(line_costs, carry)
    totals, lines = draft_totals(draft, percent), rounded_lines(draft, percent)
    assert sum(line.amount for line in lines) == totals.total
    assert sum(line.net for line in lines) == totals.net
    assert totals.net + totals.vat == totals.total
    assert all(amount % RAPPEN == 0 for line in lines for amount in (line.amount, line.net))
    # Nothing is lost: what rounding left over goes on.
    assert totals.total + totals.carry_after == carry + sum(line_costs)
    assert abs(totals.carry_after) <= RAPPEN // 2


@given(costs, carries, percents)
def test_no_line_is_further_than_a_rappen_from_its_cost(line_costs: list[int], carry: int, percent: Decimal) -> None:
    lines = rounded_lines(drafted(line_costs, carry), percent)
    assert all(abs(line.amount - line.draft.cost) <= RAPPEN for line in lines)
    for line in lines:
        exact = Decimal(line.amount) * 100 / (100 + percent)
        assert abs(line.net - exact) <= RAPPEN


@given(st.lists(costs, min_size=1, max_size=12), percents)
def test_all_invoices_together_ask_for_what_was_used(months: list[list[int]], percent: Decimal) -> None:
    carry, asked = 0, 0
    for month in months:
        totals = draft_totals(drafted(month, carry), percent)
        carry, asked = totals.carry_after, asked + totals.total
    assert asked + carry == sum(sum(month) for month in months)


@given(st.integers(0, 10**13), percents)
def test_total_and_vat_are_rounded_as_is_said(cost: int, percent: Decimal) -> None:
    totals = draft_totals(drafted([cost]), percent)
    francs = (Decimal(cost) / 10**6).quantize(Decimal("0.01"), ROUND_HALF_EVEN)
    assert Decimal(totals.total) / 10**6 == francs
    net = (francs * 100 / (100 + percent)).quantize(Decimal("0.01"), ROUND_HALF_UP)
    assert Decimal(totals.net) / 10**6 == net
    # VAT at its rate on the net amount is the same, but for the Rappen that rounding of both may differ by.
    assert abs(Decimal(totals.vat) / 10**6 - net * percent / 100) < Decimal("0.011")


def test_vat_of_a_round_amount() -> None:
    totals = draft_totals(drafted([108_100_000]), Decimal("8.1"))
    assert (totals.total, totals.net, totals.vat, totals.carry_after) == (108_100_000, 100_000_000, 8_100_000, 0)


@pytest.mark.parametrize(
    ("paid_balance", "later", "open_before", "total", "credit"),
    [
        # Used up 30 and nothing else: all of it is due.
        (-30_000_000, 0, 0, 30_000_000, 0),
        # 50 were there before.
        (20_000_000, 0, 0, 30_000_000, 30_000_000),
        # 10 were there before.
        (-20_000_000, 0, 0, 30_000_000, 10_000_000),
        # 7 are of the month that has begun, and 40 of an invoice that is open.
        (-77_000_000, 7_000_000, 40_000_000, 30_000_000, 0),
        (-76_990_001, 7_000_000, 40_000_000, 30_000_000, 0),
        (-76_980_000, 7_000_000, 40_000_000, 30_000_000, 20_000),
        # A debt from before.
        (-35_000_000, 0, 0, 30_000_000, -5_000_000),
        (-77_020_001, 7_000_000, 40_000_000, 30_000_000, -20_000),
        # What rounding has left over is less than a Rappen.
        (-30_009_999, 0, 0, 30_000_000, 0),
    ],
)
def test_credit_that_is_there_is_deducted_and_a_debt_that_is_there_asked_for(
    paid_balance: int, later: int, open_before: int, total: int, credit: int
) -> None:
    left = unspent(paid_balance=paid_balance, later=later, open_before=open_before, draft=drafted([30_000_000]))
    assert applied_credit(left, total) == max(0, credit)
    assert brought_forward(left) == max(0, -credit)


@pytest.mark.parametrize(
    ("due", "paid", "state"),
    [(10, 0, "OPEN"), (10, 4, "PARTLY_PAID"), (10, 10, "PAID"), (10, 11, "OVERPAID"), (0, 0, "PAID"), (10, -3, "OPEN")],
)
def test_states(due: int, paid: int, state: str) -> None:
    assert payment_state(due, paid) == state


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("zone", "end"),
    [
        ("Europe/Zurich", datetime(2026, 3, 31, 22, tzinfo=UTC)),
        ("Europe/Zurich", datetime(2026, 10, 31, 23, tzinfo=UTC)),
        ("UTC", datetime(2026, 12, 31, 24 - 1, 59, 59, 999_999, tzinfo=UTC) + timedelta(microseconds=1)),
        ("Pacific/Kiritimati", datetime(2026, 4, 30, 10, tzinfo=UTC)),
        ("Pacific/Pago_Pago", datetime(2026, 5, 1, 11, tzinfo=UTC)),
        ("America/St_Johns", datetime(2026, 11, 1, 2, 30, tzinfo=UTC)),
    ],
)
def test_a_month_is_over_at_its_border_to_the_microsecond(zone: str, end: datetime) -> None:
    calendar = Calendar(zone)
    tick = timedelta(microseconds=1)
    assert calendar.day(end).day == 1
    first, last = month_over(calendar, end, timedelta(0))
    assert last == calendar.day(end - tick)
    assert first == last.replace(day=1)
    assert month_over(calendar, end - tick, timedelta(0))[1] == first - timedelta(days=1)
    assert month_over(calendar, end + HOUR, HOUR)[1] == last
    assert month_over(calendar, end + HOUR - tick, HOUR)[1] == first - timedelta(days=1)


@given(st.integers(2000, 2199), st.integers(1, 10**12))
def test_references_are_those_that_banks_accept(year: int, number: int) -> None:
    named = invoice_number(year, number)
    reference = payment_reference(named, qr_iban=False)
    assert iso11649.is_valid(reference)
    assert reference[4:] == named.replace("-", "")
    of_qr = payment_reference(named, qr_iban=True)
    assert len(of_qr) == 27
    assert esr.is_valid(of_qr)


def test_a_qr_iban_is_known_by_its_institution() -> None:
    assert is_qr_iban("CH4431999123000889012")
    assert not is_qr_iban("CH9300762011623852957")


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "0.00"), (10_000, "0.01"), (-1_234_560_000, "-1\u2019234.56"), (1_000_000_000_000, "1\u2019000\u2019000.00")],
)
def test_amounts_are_written_as_in_switzerland(micros: int, text: str) -> None:
    assert written_amount(micros) == text


def test_both_languages_have_the_same_words_and_every_kind_of_line() -> None:
    assert TEXTS["de"].keys() == TEXTS["en"].keys()
    for language in ("de", "en"):
        for kind in ("USAGE", "STORAGE", "CORRECTION", "BUDGET", "PROMOTION", "CREDIT", "BALANCE"):
            assert describe_line(replace(LINE, kind=kind), language).startswith(TEXTS[language][kind])
    nameless = replace(LINE, provider=None, model=None)
    assert describe_line(nameless, "de") == "AI-Nutzung · unbekannt"
    assert (written_percent("8.10"), written_percent("10"), written_percent("8.1")) == ("8.1", "10", "8.1")
