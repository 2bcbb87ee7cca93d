"""What an import changes, and exchange rates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from services.billing.pricing import Change, Factor, PriceBook, PriceList, PriceVersion, Rate, RateTable, diff
from services.billing.pricing.clock import Window

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
MAY = datetime(2026, 5, 1, tzinfo=UTC)


def version(price: str, valid_from: datetime = JANUARY, model: str = "m1", source: str = "") -> PriceVersion:
    return PriceVersion("acme", model, "USD", valid_from, (PriceList({"input": Decimal(price)}),), source=source)


def test_a_model_that_is_not_in_the_book_is_new() -> None:
    assert diff(PriceBook([]), [version("1")]) == ((version("1"),), (), ())


def test_the_same_prices_are_unchanged_whatever_their_date_source_or_notation() -> None:
    same = version("1.0", MAY, source="elsewhere")
    assert diff(PriceBook([version("1")]), [same]) == ((), (), (same,))


def test_another_price_is_another_version_and_the_old_one_stays_as_it_is() -> None:
    before, after = version("1"), version("2", MAY)
    preview = diff(PriceBook([before]), [after])
    assert (preview.new, preview.changed, preview.unchanged) == ((), (Change(before, after),), ())
    book = PriceBook([before, *preview.additions()])
    assert book.in_force("acme", "m1", MAY - timedelta(microseconds=1)) == before
    assert book.in_force("acme", "m1", MAY) == after


def test_another_currency_is_another_price() -> None:
    other = PriceVersion("acme", "m1", "EUR", MAY, version("1").lists)
    assert diff(PriceBook([version("1")]), [other]).changed == (Change(version("1"), other),)


def test_a_model_that_has_left_the_list_keeps_its_prices() -> None:
    book = PriceBook([version("1"), version("7", model="gone")])
    assert diff(book, [version("1", MAY)]) == ((), (), (version("1", MAY),))
    assert book.in_force("acme", "gone", MAY) == version("7", model="gone")


def test_a_correction_from_the_same_time_is_a_change_once() -> None:
    wrong, right = version("1"), version("2")
    preview = diff(PriceBook([wrong]), [right])
    assert preview.changed == (Change(wrong, right),)
    again = diff(PriceBook([wrong, *preview.additions()]), [right])
    assert again == ((), (), (right,))


def test_versions_of_one_model_in_one_file_are_compared_with_each_other() -> None:
    history = [version("2", MAY), version("1", JANUARY), version("1", MARCH)]
    preview = diff(PriceBook([]), history)
    assert preview.new == (version("1", JANUARY),)
    assert preview.changed == (Change(version("1", JANUARY), version("2", MAY)),)
    assert preview.unchanged == (version("1", MARCH),)
    assert diff(PriceBook(preview.additions()), history).additions() == ()


def test_a_version_of_the_book_between_two_of_the_file_is_the_one_the_second_is_compared_with() -> None:
    book = PriceBook([version("2", MARCH)])
    preview = diff(book, [version("1", JANUARY), version("2", MAY)])
    assert preview == ((version("1", JANUARY),), (), (version("2", MAY),))


def test_a_price_that_holds_between_two_of_the_book_is_compared_with_the_one_before() -> None:
    book = PriceBook([version("1", JANUARY), version("3", MAY)])
    assert diff(book, [version("3", MARCH)]).changed == (Change(version("1"), version("3", MARCH)),)
    assert diff(book, [version("1", MARCH)]).unchanged == (version("1", MARCH),)


def test_a_price_from_before_the_first_one_is_new() -> None:
    assert diff(PriceBook([version("1", MAY)]), [version("1", JANUARY)]).new == (version("1", JANUARY),)


def test_the_rate_of_the_events_own_time_holds() -> None:
    rates = RateTable(
        [Rate("USD", MAY, Decimal("0.9")), Rate("USD", JANUARY, Decimal("0.8")), Rate("EUR", MAY, Decimal(1))]
    )
    moment = timedelta(microseconds=1)
    assert rates.at("USD", JANUARY - moment) is None
    assert rates.at("USD", JANUARY) == Rate("USD", JANUARY, Decimal("0.8"))
    assert rates.at("USD", MAY - moment) == Rate("USD", JANUARY, Decimal("0.8"))
    assert rates.at("USD", MAY) == Rate("USD", MAY, Decimal("0.9"))
    assert rates.at("EUR", JANUARY) is None
    assert rates.at("GBP", MAY) is None


def test_a_franc_is_always_a_franc() -> None:
    found = RateTable([]).at("CHF", datetime(1999, 1, 1, tzinfo=UTC))
    assert found is not None
    assert found.rate == 1
    with pytest.raises(ValueError, match="CHF is always 1 CHF"):
        RateTable([Rate("CHF", JANUARY, Decimal(2))])


def test_of_two_rates_from_the_same_time_the_one_recorded_last_holds() -> None:
    found = RateTable([Rate("USD", MAY, Decimal(2), "a"), Rate("USD", MAY, Decimal(1), "b")]).at("USD", MAY)
    assert found is not None
    assert found.id == "b"


@pytest.mark.parametrize("rate", ["0", "-1", "NaN", "Infinity"])
def test_a_rate_that_is_not_above_zero_is_refused(rate: str) -> None:
    with pytest.raises(ValueError, match="must be more than zero"):
        RateTable([Rate("USD", JANUARY, Decimal(rate))])


def priced(*lists: PriceList, factors: tuple[Factor, ...] = ()) -> PriceVersion:
    return PriceVersion("acme", "m1", "USD", JANUARY, lists, factors)


def listed(**prices: str) -> PriceList:
    return PriceList({component: Decimal(price) for component, price in prices.items()})


def test_a_change_tells_every_price_before_and_after() -> None:
    night = (Window(1350, 375, (1, 5), "Europe/Zurich"),)
    before = priced(
        listed(input="2", output="8"),
        PriceList({"input": Decimal(1), "pages": Decimal(3)}, ("batch", "flex")),
        PriceList({"seconds": Decimal(1)}, when={"resolution": "720p"}),
        factors=(Factor(Decimal("0.5"), clock=night),),
    )
    after = priced(
        listed(input="3", output="8", cache_read="0.2"),
        PriceList({"input": Decimal(1)}, ("batch", "flex")),
        PriceList({"seconds": Decimal("1.5")}, when={"resolution": "720p"}),
        factors=(Factor(Decimal("0.25"), clock=night),),
    )
    assert [change[:4] for change in Change(before, after).prices()] == [
        ("input", "", 2, 3),
        ("pages", "batch", 3, None),
        ("pages", "flex", 3, None),
        ("seconds", "resolution 720p", 1, Decimal("1.5")),
        ("factor", "22:30-06:15 Europe/Zurich on 15", Decimal("0.5"), Decimal("0.25")),
        ("cache_read", "", None, Decimal("0.2")),
    ]
    assert not any(change.tenfold for change in Change(before, after).prices())


@pytest.mark.parametrize(
    ("old", "new", "marked"),
    [
        ("0.000001", "0.00001", False),
        ("0.000001", "0.0000100001", True),
        ("0.00001", "0.000001", False),
        ("0.00001", "0.0000009", True),
        ("0.000003", "3", True),
        ("0", "0.000001", True),
        ("0.000001", "0", True),
    ],
)
def test_more_than_ten_times_either_way_is_marked(old: str, new: str, marked: bool) -> None:
    (change,) = Change(priced(listed(input=old)), priced(listed(input=new))).prices()
    assert change.tenfold is marked


def test_a_price_that_holds_elsewhere_than_before_is_compared_with_all_of_its_component() -> None:
    before = priced(listed(input="2"), PriceList({"input": Decimal(1)}, ("batch",)))

    def marks(price: str) -> list[bool]:
        parts = (PriceList({"input": Decimal(price)}, up_to=100), PriceList({"input": Decimal(4)}, above=100))
        return [change.tenfold for change in Change(before, priced(*parts)).prices() if change.after is not None]

    assert marks("2") == [False, False]
    assert marks("21") == [True, False]
    assert marks("0.09") == [True, False]
