"""The documented JSON form: what it says, what it refuses, and that it survives being stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.billing import pricing as prices
from services.billing.pricing import (
    PriceError,
    PriceFileError,
    read_rappen_file,
    version_from_text,
    version_to_json,
    version_to_text,
)

NOW = datetime(2026, 2, 3, tzinfo=UTC)


def entry(**fields: Any) -> dict[str, Any]:
    plain = {"provider": "acme", "model": "m1", "currency": "USD", "lists": [{"prices": {"input": "1"}}]}
    return plain | fields


def listed(**fields: Any) -> dict[str, Any]:
    return entry(lists=[{"prices": {"input": "1"}} | fields])


def file_of(*entries: object) -> bytes:
    return json.dumps({"format": "rappen.prices.v1", "prices": list(entries)}).encode()


def test_the_example_of_the_documentation_reads_and_survives_being_stored() -> None:
    assert prices.__doc__ is not None
    start = prices.__doc__.index('    {\n      "provider"')
    example = prices.__doc__[start : prices.__doc__.index("\n    }\n", start) + 6]
    found = version_from_text(example, "42")
    assert (found.provider, found.model, found.id) == ("google", "gemini-2.5-pro", "42")
    assert found.lists[0].prices["cache_read"] == Decimal("0.000000125")
    assert version_from_text(version_to_text(found), "42") == found


def test_a_written_file_reads_back_as_the_same_versions() -> None:
    first = read_rappen_file(file_of(entry(), entry(model="m2", currency="EUR", source="a page")), NOW)
    written = file_of(*map(version_to_json, first.versions))
    again = read_rappen_file(written, datetime(2030, 1, 1, tzinfo=UTC))
    assert again == first
    assert [version.valid_from for version in again.versions] == [NOW, NOW]


def test_the_entrys_own_date_comes_before_that_of_the_import() -> None:
    found = read_rappen_file(file_of(entry(valid_from="2025-12-31T23:00:00.5-01:00")), NOW)
    assert found.versions[0].valid_from == datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("faulty", "why"),
    [
        (entry(valid_from="0001-01-01T00:00:00Z"), "valid_from: a time from 2000 to 2199 is expected"),
        (entry(valid_from="2200-01-01T00:00:00Z"), "valid_from: a time from 2000 to 2199 is expected"),
        (listed(tier="default"), "lists[0].tier: default means standard, which is the name to price by"),
        (listed(tier=["batch", "auto"]), "lists[0].tier: auto is what was asked for, not what was served"),
        (listed(clock=[{"zone": "UTC"}]), "lists[0].clock[0]: hours or weekdays are expected"),
        *(
            (
                listed(clock=[{"weekdays": [1], "zone": zone}]),
                "lists[0].clock[0]: zone is the name of a time zone, like Europe/Zurich",
            )
            for zone in ("Mars/Olympus", "localtime", "Factory", "posixrules", "right/UTC", "right/Europe/Zurich")
        ),
        ([], "entry: an object is expected"),
        (entry(colour="red"), "entry: unknown field 'colour'"),
        ({"provider": "acme"}, "model: is missing"),
        (entry(model=7), "model: a string is expected"),
        (entry(model=""), "model: 1 to 120 characters are expected"),
        (entry(provider="x" * 121), "provider: 1 to 120 characters are expected"),
        (entry(model="a\u0000b"), "model: only printable characters are expected"),
        (entry(model="\ud800"), "model: only printable characters are expected"),
        (entry(source="a\nb"), "source: at most 500 printable characters"),
        (entry(currency="usd"), "currency: three capital letters are expected"),
        (entry(valid_from="2026-01-01"), "valid_from: a time with an offset is expected, like 2026-01-31T00:00:00Z"),
        (
            entry(valid_from="2026-02-30T00:00:00Z"),
            "valid_from: a time with an offset is expected, like 2026-01-31T00:00:00Z",
        ),
        (
            entry(valid_from="2026-01-31T24:00:00Z"),
            "valid_from: a time with an offset is expected, like 2026-01-31T00:00:00Z",
        ),
        (
            entry(valid_from="2026-01-01T00:00:00"),
            "valid_from: a time with an offset is expected, like 2026-01-31T00:00:00Z",
        ),
        (entry(lists=[]), "lists: 1 to 200 are expected, a missing price is not zero"),
        (entry(lists=[{}]), "lists[0].prices: is missing"),
        (entry(lists=[{"prices": {}}]), "lists[0].prices: 1 to 100 are expected, a missing price is not zero"),
        (entry(lists=[{"prices": {"input": 1}}]), "lists[0].prices.input: a decimal string is expected, not a number"),
        (
            entry(lists=[{"prices": {"input": 0.1}}]),
            "lists[0].prices.input: a decimal string is expected, not a number",
        ),
        (
            entry(lists=[{"prices": {"input": True}}]),
            "lists[0].prices.input: a decimal string is expected, not a number",
        ),
        (entry(lists=[{"prices": {"input": None}}]), "lists[0].prices.input: is missing"),
        (entry(lists=[{"prices": {"input": "1_000"}}]), "lists[0].prices.input: '1_000' is not a decimal number"),
        (entry(lists=[{"prices": {"input": "NaN"}}]), "lists[0].prices.input: 'NaN' is not a decimal number"),
        (entry(lists=[{"prices": {"input": "\u0661"}}]), "lists[0].prices.input: '\u0661' is not a decimal number"),
        (entry(lists=[{"prices": {"input": "1."}}]), "lists[0].prices.input: '1.' is not a decimal number"),
        (
            entry(lists=[{"prices": {"input": "-1"}}]),
            "lists[0].prices.input: a finite number that is not negative is expected",
        ),
        (entry(lists=[{"prices": {"input": "1E-25"}}]), "lists[0].prices.input: at most 24 decimals"),
        (entry(lists=[{"prices": {"input": "1E14"}}]), "lists[0].prices.input: at most 14 digits before the point"),
        (listed(price="1"), "lists[0]: unknown field 'price'"),
        (listed(tier=1), "lists[0].tier: a string is expected"),
        (listed(tier=["*", "batch"]), "lists[0].tier: a name, several names, or * alone is expected"),
        (listed(above="200000"), "lists[0].above: a whole number of tokens is expected"),
        (listed(above=1.5), "lists[0].above: a whole number of tokens is expected"),
        (listed(up_to=-1), "lists[0].up_to: a number of tokens that is not negative is expected"),
        (listed(above=5, up_to=5), "lists[0].up_to: must be more than above"),
        (listed(when={"region": 1}), "lists[0].when.region: a string is expected"),
        (listed(clock=[]), "lists[0].clock: at least one window is expected"),
        (listed(clock=[{}]), "lists[0].clock[0]: hours or weekdays are expected"),
        (listed(clock=[{"hours": "9:00-10:00"}]), "lists[0].clock[0].hours: HH:MM-HH:MM is expected"),
        (listed(clock=[{"hours": "10:00-24:01"}]), "lists[0].clock[0]: a window lies between 00:00 and 24:00"),
        (listed(clock=[{"weekdays": [0]}]), "lists[0].clock[0]: weekdays are numbers from 1 (Monday) to 7"),
        (
            listed(clock=[{"weekdays": [True]}]),
            "lists[0].clock[0].weekdays: different numbers from 1 (Monday) to 7 are expected",
        ),
        (
            listed(clock=[{"weekdays": [1, 1]}]),
            "lists[0].clock[0].weekdays: different numbers from 1 (Monday) to 7 are expected",
        ),
        (
            entry(lists=[{"prices": {"input": "1"}}, {"above": 5, "prices": {"input": "2"}}]),
            "lists[0]: token prices need above or up_to where others of the tier have it",
        ),
        (
            entry(factors=[{"factor": "2"}]),
            "factors[0]: either tier, or when and clock, must say where the factor applies",
        ),
        (
            entry(factors=[{"factor": "2", "tier": "batch", "when": {"a": "b"}}]),
            "factors[0]: either tier, or when and clock, must say where the factor applies",
        ),
        (
            entry(factors=[{"factor": "2", "tier": "batch"}, {"factor": "3", "tier": "batch"}]),
            "factors: a tier has one factor at most",
        ),
        (
            entry(factors=[{"factor": "2", "tier": "standard"}]),
            "factors[0].tier: a tier other than standard is expected, the factor is against it",
        ),
        (
            entry(factors=[{"factor": 2, "tier": "batch"}]),
            "factors[0].factor: a decimal string is expected, not a number",
        ),
        (entry(factors=[{"factor": "1.1234567", "tier": "batch"}]), "factors[0].factor: at most 6 decimals"),
        (entry(factors=[{"factor": "1000.1", "tier": "batch"}]), "factors[0].factor: at most 1000"),
        (
            entry(factors=[{"factor": "2", "tier": "b", "applies_to": "some"}]),
            "factors[0].applies_to: tokens or all is expected",
        ),
    ],
)
def test_a_faulty_entry_is_named_with_the_field_and_the_others_are_taken(faulty: object, why: str) -> None:
    found = read_rappen_file(file_of(entry(model="good"), faulty), NOW)
    assert [version.model for version in found.versions] == ["good"]
    assert [fault.why for fault in found.unreadable] == [why]
    assert found.unreadable[0].entry.startswith("prices[1]")


def test_a_fault_names_the_model_and_can_always_be_sent_on() -> None:
    found = read_rappen_file(file_of(entry(currency="x"), entry(model="\ud800\u0000")), NOW)
    assert [fault.entry for fault in found.unreadable] == ["prices[0] acme m1", "prices[1] acme \\ud800\\x00"]
    for fault in found.unreadable:
        assert f"{fault.entry}{fault.why}".isprintable()


def test_prices_by_length_and_plain_ones_may_stand_in_different_tiers() -> None:
    lists = [
        {"prices": {"input": "1"}},
        {"tier": "batch", "above": 5, "prices": {"input": "2"}},
        {"prices": {"images": "3"}, "tier": "*"},
    ]
    assert read_rappen_file(file_of(entry(lists=lists)), NOW).unreadable == ()


def test_a_model_priced_twice_from_the_same_time_is_refused_the_second_time() -> None:
    found = read_rappen_file(file_of(entry(), entry(lists=[{"prices": {"input": "2"}}])), NOW)
    assert found.versions[0].lists[0].prices == {"input": Decimal(1)}
    assert len(found.versions) == 1
    assert found.unreadable[0].why == "the model has a price from the same time already in this file"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"7", "not a JSON object"),
        (b'{"prices": []}', "format is rappen.prices.v1"),
        (b'{"format": "rappen.prices.v2", "prices": []}', "format is rappen.prices.v1"),
        (b'{"format": "rappen.prices.v1"}', "prices: an array is expected"),
        (b'{"format": "rappen.prices.v1", "prices": [], "extra": 1}', "unknown field 'extra'"),
        (b'{"format": "rappen.prices.v1", "prices": [{"model": "a", "model": "b"}]}', "'model' is given twice"),
        (b'{"format": "rappen.prices.v1", "prices": [Infinity]}', "Infinity is not a number"),
        (b" " * (32 * 1024 * 1024 + 1), "larger than"),
    ],
)
def test_a_file_that_is_no_price_file_is_refused_as_a_whole(data: bytes, why: str) -> None:
    with pytest.raises(PriceFileError, match=why):
        read_rappen_file(data, NOW)


def test_a_byte_order_mark_does_not_matter() -> None:
    assert len(read_rappen_file(b"\xef\xbb\xbf" + file_of(entry()), NOW).versions) == 1


@pytest.mark.parametrize("text", ["", "[]", json.dumps(entry())])
def test_stored_text_that_is_no_version_is_an_error(text: str) -> None:
    with pytest.raises(PriceError):
        version_from_text(text, "1")
