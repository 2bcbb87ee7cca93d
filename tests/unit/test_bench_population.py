"""The bench's stream of events: what becomes of each is known beforehand, and publishers write in ways of their own."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache

import pytest

from rappen_contracts import Event, decode
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.money import Markup
from services.billing.pricing import PriceBook, Rate, RateTable, read_rappen_file
from services.billing.pricing.rating import Parked, RatedUsage, Tariff, billable, rate_usage
from tests.bench.population import MEMBERS, REFUSED_WORKFLOW, Expected, Twentieth, Usages, holds_named
from tests.bench.publishers import PUBLISHED_ONLY, STYLES, UNUSUAL, Record, Writer
from tests.bench.session import PRICES, PRICES_FROM, RATES

TOO_MUCH_CHF = 10**9
COUNT = 5_000
ALL = (*(style.write for style in STYLES), *UNUSUAL, *PUBLISHED_ONLY)


def _read(record: Record) -> Event:
    key, value, given = record
    headers = [(name, text.encode() if isinstance(text, str) else text) for name, text in given]
    event = decode(headers, value, now=datetime.now(UTC))
    assert isinstance(event.data, UsageRecorded)
    assert key.decode() == event.data.mandate_id
    assert abs(event.time - datetime.now(UTC)) < timedelta(minutes=1)
    return event


@cache
def _tariff() -> Tariff:
    rates = [Rate(currency, PRICES_FROM, rate) for currency, rate in RATES.items()]
    return Tariff(1, PriceBook(read_rappen_file(PRICES.read_bytes(), PRICES_FROM).versions), RateTable(rates))


def _rated(event: Event) -> RatedUsage | Parked:
    data = event.data
    assert isinstance(data, UsageRecorded)
    tokens = data.tokens.counts() if data.tokens is not None else {}
    return rate_usage(billable(data, tokens), event.time, _tariff(), Markup.of(Decimal(50)))


def _became(records: Iterable[Record]) -> Expected:
    """What billing would make of them."""
    seen: dict[tuple[str, object], bytes] = {}
    became = Counter[str]()
    for record in records:
        event = _read(record)
        identity = (record[0].decode(), event.id)
        rated = _rated(event)
        if identity in seen:
            assert seen[identity] == event.digest
            became["repeats"] += 1
        elif isinstance(rated, Parked):
            became["parked"] += 1
        elif rated.exact > TOO_MUCH_CHF or getattr(event.data, "workflow_id", None) == REFUSED_WORKFLOW:
            became["refused"] += 1
        else:
            # What is free is not charged.
            assert rated.exact > 0
            became["charged"] += 1
        seen[identity] = event.digest
    return Expected(**{name: became[name] for name in Expected._fields})


@pytest.mark.parametrize("twentieth", [None, "too_large", "refused", "published"])
@pytest.mark.parametrize("hot", [False, True])
def test_what_becomes_of_the_events_is_known_beforehand(twentieth: Twentieth | None, hot: bool) -> None:
    expected = Expected.of(COUNT, twentieth)
    assert expected.parked == expected.repeats == COUNT / 50
    assert expected.refused == (COUNT / 20 if twentieth in ("too_large", "refused") else 0)
    assert _became(Usages(3, hot=hot, twentieth=twentieth).records(COUNT)) == expected


def test_each_event_but_repeats_names_a_hold_of_its_member() -> None:
    named = {}
    for record in Usages(6, settling=True).records(500):
        event = _read(record)
        assert isinstance(event.data, UsageRecorded)
        assert event.data.hold_id is not None
        named[event.data.hold_id] = (event.data.mandate_id, event.data.user_id)
    assert named == {id_: (member.mandate_id, member.user_id) for member, id_ in holds_named(6, 500)}
    assert len(named) == 490


@pytest.mark.parametrize("count", [0, 1, 10, 11, 26, 27, 43, 59, 61, 99])
def test_it_is_known_of_any_number_of_events(count: int) -> None:
    assert _became(Usages(4, twentieth="refused").records(count)) == Expected.of(count, "refused")


def test_all_were_sent_when_all_were_charged_and_none_when_none_was() -> None:
    expected = Expected.of(COUNT)
    assert (expected.sent(0), expected.sent(expected.charged)) == (0, COUNT)


def test_each_publisher_writes_its_part() -> None:
    sources = Counter(_read(record).source for record in Usages(5).records(20_000))
    assert sum(style.percent for style in STYLES) == 100
    parts = {"compact": 40, "encoded": 25, "spaced": 15, "metadata": 10, "quantities": 10}
    assert sorted(parts.values()) == sorted(style.percent for style in STYLES)
    for name, percent in parts.items():
        assert sources[f"/bench/{name}"] / 20_000 == pytest.approx(0.96 * percent / 100, abs=0.015)
    assert sources["/bench/unusual"] + sources["/bench/structured"] == pytest.approx(400, abs=10)


@pytest.mark.parametrize("rank", range(12))
def test_whatever_is_written_of_whichever_model_is_charged(rank: int) -> None:
    usages = Usages(rank)
    for write in ALL * 4:
        rated = _rated(_read(write(usages.body(MEMBERS[rank]), random.Random(rank))))
        assert isinstance(rated, RatedUsage), rated
        assert rated.exact > 0


def test_no_two_ways_of_writing_give_the_same_bytes() -> None:
    """So none of them is another that was meant to differ; ids and times are left out, but not how they are spelled."""
    shapes = Counter(map(_shape, ALL))
    # Structured mode is unusual, and it is what only the published decoding takes.
    assert sorted(shapes.values()) == [1] * (len(shapes) - 1) + [2]


def _shape(write: Writer) -> tuple[object, ...]:
    _, value, headers = write(Usages(1).body(MEMBERS[0]), random.Random(1))
    spelled = tuple((name, _outline(text)) for name, text in headers)
    return (*spelled, _outline(value))


def _outline(text: str | bytes | None) -> str:
    """Every digit as 9 or a, so that two ids of one spelling are equal."""
    shown = text.decode() if isinstance(text, bytes) else str(text)
    return "".join("9" if one in "0123456789abcdef" else "A" if one in "ABCDEF" else one for one in shown)
