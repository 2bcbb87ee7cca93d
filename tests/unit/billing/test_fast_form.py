"""Where the fast form fails, the published one reads and prices; and it remembers no more than it should."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from prometheus_client import REGISTRY

from rappen_contracts import ContractError
from rappen_contracts.types import since_epoch
from rappen_contracts.usage import fast
from services.billing.charging.charge_usage import PricingContext, split_by_price
from services.billing.charging.usage_events import Usage, reader
from services.billing.ledger.calendars import HOST_ZONES, Calendar
from services.billing.ledger.keys import ChargeKeyCache, ChargeKeys, UsageDimensions
from services.billing.mandates.domain import Terms
from services.billing.money import Markup
from services.billing.pricing import PriceBook, PriceList, PriceVersion, Rate, RateTable
from services.billing.pricing.clock import Window
from services.billing.pricing.quotes import Quotes
from services.billing.pricing.rating import Tariff
from tests.support.events import usage_record
from tests.support.records import arrived_record

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
TARIFF = Tariff(
    1,
    PriceBook(
        PriceVersion(
            "acme", "m", "USD", SINCE + timedelta(days=day), (PriceList({"input": Decimal(day)}),), id=str(day)
        )
        for day in range(1, 4)
    ),
    RateTable([Rate("USD", SINCE, Decimal("0.5"), "1")]),
)


def _fail(*_: Any) -> Any:
    raise RuntimeError("placed")


def _errors(step: str) -> float:
    return REGISTRY.get_sample_value("rappen_usage_fast_form_errors_total", {"step": step}) or 0.0


def _read(*, at: datetime = NOW, **data: Any) -> Usage:
    usage = reader(NOW)(arrived_record("usage.recorded", usage_record("m", at=at, **data)))
    usage.keys = ChargeKeys(1, 2, 3, 4, 5)
    return usage


def _context() -> PricingContext:
    markup, calendar = Markup.of(Decimal(100)), Calendar("Europe/Zurich")
    terms = Terms(1, "PREPAY_MANDATE", markup, calendar, 0, has_unposted=False, has_cancellations=False)
    return PricingContext({1: terms}, TARIFF, Quotes(TARIFF))


def test_a_record_at_which_the_fast_form_fails_is_read_in_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = _read()
    monkeypatch.setattr(fast, "read", _fail)
    before, usage = _errors("read"), _read()
    assert _errors("read") == before + 1
    assert quick.event is None
    assert usage.event is not None
    assert (usage.digest, usage.time, usage.names) == (quick.digest, quick.time, quick.names)


def test_usage_at_which_the_fast_form_fails_is_priced_in_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    usages = [_read(amount="1"), _read(cost=None, provider="acme", model="m", tokens={"input": 7})]
    quick, _, _ = split_by_price(usages, _context(), NOW, {})
    assert [usage.event for usage in usages] == [None, None]
    monkeypatch.setattr(Quotes, "price", _fail)
    before = _errors("price")
    published, unposted, _ = split_by_price(usages, _context(), NOW, {})
    assert _errors("price") == before + 2
    assert unposted == []
    assert [posting.price for posting in published] == [posting.price for posting in quick] == [2 * 10**24, 21 * 10**24]
    assert all(usage.event is not None for usage in usages)


def test_what_was_accepted_is_not_judged_again_by_a_clock_that_was_set_back() -> None:
    usage = _read(at=NOW + timedelta(minutes=4), quantities=None)
    event, data, tokens = usage.published()
    assert (event.time, data.mandate_id, tokens) == (NOW + timedelta(minutes=4), "m", {})


def test_a_quote_holds_from_one_price_to_the_next() -> None:
    quotes = Quotes(TARIFF)
    markup = Markup.of(Decimal(100))
    prices = []
    for at in (SINCE, *(SINCE + timedelta(days=day, microseconds=by) for day in range(1, 4) for by in (-1, 0))):
        usage = _read(cost=None, provider="acme", model="m", tokens={"input": 7})
        assert isinstance(usage.data, fast.UsageData)
        found = quotes.price(usage.data, usage.counts, since_epoch(at), markup)
        prices.append(None if found is None else (found[0] // 10**24, found[1].price))
    assert prices == [None, None, (7, "1"), (7, "1"), (14, "2"), (14, "2"), (21, "3")]


def test_usage_of_a_model_with_windows_is_priced_in_the_fast_form() -> None:
    night = Window(22 * 60 + 30, 60, zone="Europe/Zurich")
    lists = (PriceList({"input": Decimal(2)}), PriceList({"input": Decimal(1)}, clock=(night,)))
    tariff = Tariff(1, PriceBook([PriceVersion("acme", "m", "USD", SINCE, lists, id="1")]), TARIFF.rates)
    context = PricingContext(_context().terms, tariff, Quotes(tariff))
    borders = [datetime(2026, 3, 28, 21, 30, tzinfo=UTC), datetime(2026, 3, 29, tzinfo=UTC)]
    # The night after, the clock is an hour ahead.
    borders += [datetime(2026, 3, 29, 20, 30, tzinfo=UTC), datetime(2026, 3, 29, 23, tzinfo=UTC)]
    times = [border + timedelta(microseconds=by) for border in borders for by in (-1, 0)]
    usages = [_read(at=at, cost=None, provider="acme", model="m", tokens={"input": 7}) for at in times]
    postings, unposted, _ = split_by_price(usages, context, NOW, {})
    assert (unposted, [usage.event for usage in usages]) == ([], [None] * len(times))
    day, dark = 14 * 10**24, 7 * 10**24
    assert [posting.price for posting in postings] == [day, dark, dark, day, day, dark, dark, day]


def test_no_zone_has_a_border_within_a_minute_from_the_year_2000_on() -> None:
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        for year, month in product(range(2000, 2101), (1, 7)):
            offset = datetime(year, month, 1, tzinfo=zone).utcoffset()
            assert name in HOST_ZONES or name.startswith("right/") or not (offset or timedelta()).seconds % 60, name


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_NAMES_MAX", 100)
    monkeypatch.setattr(fast, "_SECONDS_MAX", 100)
    monkeypatch.setattr("services.billing.pricing.quotes._QUOTES_MAX", 100)
    monkeypatch.setattr("services.billing.pricing.clock._MINUTES_MAX", 100)
    quotes = Quotes(TARIFF)
    for number in range(1_000):
        usage = _read(feature_code=f"f-{number}", at=NOW - timedelta(seconds=number))
        assert isinstance(usage.data, fast.UsageData)
        assert quotes.price(usage.data, usage.counts, usage.time, Markup.of(Decimal(number))) is not None
    assert len(fast._known_names) <= 100
    assert len(fast._seconds) <= 100
    assert sum(map(len, quotes._by_currency.values())) <= 100

    windows = tuple(Window(start, start + 1) for start in range(0, 1_000, 2))
    lists = (PriceList({"input": Decimal(2)}, ("*",)), PriceList({"input": Decimal(1)}, ("*",), clock=windows))
    quotes = Quotes(Tariff(1, PriceBook([PriceVersion("acme", "m", "USD", SINCE, lists, id="1")]), TARIFF.rates))
    for minute in range(1_000):
        named = {"provider": "acme", "model": "m", "service_tier": f"t-{minute % 7}"}
        usage = _read(at=NOW - timedelta(minutes=minute), cost=None, tokens={"input": 7}, **named)
        assert isinstance(usage.data, fast.UsageData)
        assert quotes.price(usage.data, usage.counts, usage.time, Markup.of(Decimal(0))) is not None
    kept = [quote.hours for (quote,) in quotes._by_model.values() if quote.hours is not None]
    assert kept
    assert sum(1 + len(hours.bands) for hours in kept) <= 100
    assert len(kept[0].clock._by_minute) <= 100


def test_long_names_take_no_more_room_than_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_NAMES_CHARACTERS_MAX", 10_000)
    monkeypatch.setattr("services.billing.ledger.keys.CHARGE_KEYS_CHARACTERS_MAX", 10_000)
    known, cache = fast._KnownNames(), ChargeKeyCache()
    for number in range(300):
        names = known["m", "u", "acme", "m" * 100, f"{number:0100}", None]
        cache.remember([(UsageDimensions(*names), ChargeKeys(1, 2, 3, 4, number))])
        assert cache.get(names) == ChargeKeys(1, 2, 3, 4, number)
        assert sum(len(name or "") for kept in known for name in kept) <= 10_000
        assert sum(len(name or "") for kept in cache._charge_keys for name in kept) <= 10_000
    # The newest half stays.
    assert cache.get(("m", "u", "acme", "m" * 100, f"{280:0100}", None)) is not None


def test_usage_of_any_time_is_priced_without_looking_through_all_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.billing.pricing.quotes._PERIODS_MAX", 4)
    rates = RateTable(Rate("USD", SINCE + timedelta(days=day), Decimal(day), str(day)) for day in range(1, 41))
    quotes, markup = Quotes(Tariff(1, TARIFF.book, rates)), Markup.of(Decimal(0))
    by_cost = _read(amount="1", currency="USD")
    by_tokens = _read(cost=None, provider="acme", model="m", tokens={"input": 1})
    for usage in (by_cost, by_tokens):
        assert isinstance(usage.data, fast.UsageData)
        for day in [*range(4, 41), *range(40, 3, -1)]:
            found = quotes.price(usage.data, usage.counts, since_epoch(SINCE + timedelta(days=day, hours=1)), markup)
            assert found is not None
            assert (found[0] // 10**24, found[1].rate) == (day * (1 if usage is by_cost else 3), str(day))
    kept = [*quotes._by_model.values(), *quotes._by_currency.values()]
    assert [len(each) for each in kept] == [4, 4]


@pytest.mark.parametrize("value", [b"[" * 200_000, b'{"x":' * 40_000, b'{"x":' + b"[" * 2_000 + b"]" * 2_000 + b"}"])
def test_nesting_is_refused_and_no_failure_of_the_fast_form(value: bytes) -> None:
    before = _errors("read")
    record = replace(usage_record("m"), value=value)
    with pytest.raises(ContractError) as refused:
        reader(NOW)(arrived_record("usage.recorded", record))
    assert refused.value.code == "TOO_DEEP"
    assert _errors("read") == before
