"""Pricing by the book, with prices worked out by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.billing.pricing import (
    PROMPT_KINDS,
    Metered,
    PriceBook,
    Priced,
    PriceVersion,
    Unpriced,
    read_rappen_file,
    version_from_text,
)

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
MAY = datetime(2026, 5, 1, tzinfo=UTC)
DEMO_FILE = Path(__file__).parents[3] / "deploy" / "simulator" / "prices.json"


def version(lists: list[dict[str, Any]], version_id: str = "", **fields: Any) -> PriceVersion:
    entry = {"provider": "acme", "model": "m1", "currency": "USD", "valid_from": "2026-01-01T00:00:00Z", "lists": lists}
    return version_from_text(json.dumps(entry | fields), version_id)


def book(lists: list[dict[str, Any]], **fields: Any) -> PriceBook:
    return PriceBook([version(lists, **fields)])


def used(
    tokens: dict[str, int] | None = None,
    quantities: dict[str, str] | None = None,
    tier: str = "standard",
    conditions: dict[str, str] | None = None,
) -> Metered:
    amounts = {name: Decimal(amount) for name, amount in (quantities or {}).items()}
    return Metered("acme", "m1", tokens or {}, amounts, tier, conditions or {})


def cost(of: PriceBook, usage: Metered, at: datetime = MAY) -> Decimal:
    found = of.price(usage, at)
    assert isinstance(found, Priced), found
    return found.cost


def lines(of: PriceBook, usage: Metered, at: datetime = MAY) -> list[Any]:
    """The lines, and what their components were priced as where that is not themselves."""
    found = of.price(usage, at)
    assert isinstance(found, Priced), found
    assert found.priced_as.keys() <= {line[0] for line in found.lines}
    return [(*line, *filter(None, [found.priced_as.get(line[0])])) for line in found.lines]


def reason(of: PriceBook, usage: Metered, at: datetime = MAY) -> str:
    found = of.price(usage, at)
    assert isinstance(found, Unpriced), found
    return found.reason


def test_a_call_costs_the_sum_of_its_components_and_shows_its_lines() -> None:
    prices = PriceBook(
        [version([{"prices": {"input": "0.000003", "output": "0.000015", "web_searches": "0.01"}}], "v7")]
    )
    found = prices.price(used({"input": 1000, "output": 200}, {"web_searches": "2"}), MAY)
    assert found == Priced(
        cost=Decimal("0.026"),
        currency="USD",
        lines=[
            ("input", 1000, "0.000003", "1"),
            ("output", 200, "0.000015", "1"),
            ("web_searches", Decimal(2), "0.01", "1"),
        ],
        valid_from=JANUARY,
        version_id="v7",
    )


def test_the_cost_is_exact_to_the_last_digit_of_the_largest_and_smallest_numbers() -> None:
    prices = book(
        [{"prices": {"input": "0.000000000000000000000001", "output": "99999999999999.999999999999999999999999"}}]
    )
    usage = used({"input": 2**53 - 1, "output": 2**53 - 1})
    assert cost(prices, usage) == Decimal("900719925474099100000000000000.000000000000000000000000")


def test_fractions_of_a_unit_are_charged_exactly() -> None:
    assert cost(book([{"prices": {"seconds": "0.0001"}}]), used(quantities={"seconds": "12.3456789"})) == Decimal(
        "0.00123456789"
    )


def test_the_version_of_the_events_own_time_holds_from_its_first_moment() -> None:
    later = "2026-04-01T00:00:00+02:00"
    prices = PriceBook([version([{"prices": {"input": "2"}}], valid_from=later), version([{"prices": {"input": "1"}}])])
    change = datetime(2026, 3, 31, 22, 0, tzinfo=UTC)
    assert cost(prices, used({"input": 1}), JANUARY) == 1
    assert cost(prices, used({"input": 1}), change - timedelta(microseconds=1)) == 1
    assert cost(prices, used({"input": 1}), change) == 2
    before = JANUARY - timedelta(microseconds=1)
    assert reason(prices, used({"input": 1}), before) == "acme m1 has no price before 2026-01-01T00:00:00Z"


def test_of_two_versions_from_the_same_time_the_one_recorded_last_holds() -> None:
    prices = PriceBook([version([{"prices": {"input": "5"}}], "1"), version([{"prices": {"input": "3"}}], "2")])
    found = prices.price(used({"input": 1}), JANUARY)
    assert isinstance(found, Priced)
    assert (found.cost, found.version_id) == (Decimal(3), "2")


def test_provider_and_model_are_matched_exactly_as_reported() -> None:
    prices = book([{"prices": {"input": "1"}}])
    for provider, model in (("Acme", "m1"), ("acme", "M1"), ("acme", "eu/m1"), ("acme", "m1-2026")):
        assert (
            reason(prices, Metered(provider, model, {"input": 1}, {})) == f"{provider} {model} is not in the price book"
        )


def test_a_count_of_zero_needs_no_price_and_any_other_does() -> None:
    prices = book([{"prices": {"input": "1"}}])
    assert cost(prices, used({"input": 1, "audio_input": 0}, {"images": "0"})) == 1
    assert reason(prices, used({"input": 1, "audio_input": 1})) == "acme m1 has no price for audio_input"
    assert reason(prices, used({"input": 1}, {"images": "0.5"})) == "acme m1 has no price for images"


def test_a_price_of_zero_is_a_price() -> None:
    assert cost(book([{"prices": {"input": "0"}}]), used({"input": 10})) == 0


def test_a_negative_count_is_an_error_and_never_a_credit() -> None:
    with pytest.raises(ValueError, match="the count of input is negative"):
        book([{"prices": {"input": "1"}}]).price(used({"input": -1}), MAY)


@pytest.mark.parametrize(
    ("kind", "instead"),
    [("reasoning", "output"), ("cache_read", "input"), ("tool_input", "input"), ("image_input", "input")],
)
def test_four_kinds_are_billed_as_what_they_are_part_of_unless_they_have_a_price(kind: str, instead: str) -> None:
    assert cost(book([{"prices": {instead: "2"}}]), used({kind: 3})) == 6
    assert cost(book([{"prices": {instead: "2", kind: "5"}}]), used({kind: 3})) == 15
    assert lines(book([{"prices": {instead: "2"}}]), used({kind: 3})) == [(kind, 3, "2", "1", f"as {instead}")]


@pytest.mark.parametrize(
    "kind",
    [
        "cache_write",
        "cache_write_1h",
        "audio_input",
        "audio_cache_read",
        "audio_output",
        "image_cache_read",
        "image_output",
    ],
)
def test_no_other_kind_is_ever_billed_as_another(kind: str) -> None:
    others = {"input": "1", "output": "1", "reasoning": "1", "cache_write": "1", "cache_read": "1", "audio_input": "1"}
    others["image_input"] = "1"
    others.pop(kind, None)
    assert reason(book([{"prices": others}]), used({kind: 1})) == f"acme m1 has no price for {kind}"


def test_a_kind_priced_only_under_a_condition_does_not_fall_back_without_it() -> None:
    prices = book([{"prices": {"input": "1"}}, {"when": {"image_size": "4K"}, "prices": {"image_input": "9"}}])
    assert cost(prices, used({"image_input": 1}, conditions={"image_size": "4K"})) == 9
    assert reason(prices, used({"image_input": 1})) == "acme m1 has no price for image_input: it depends on image_size"


def test_a_quantity_named_like_a_token_kind_has_no_price() -> None:
    assert (
        reason(book([{"prices": {"input": "1"}}]), used(quantities={"input": "1"})) == "acme m1 has no price for input"
    )


def test_a_kind_that_a_tier_does_not_price_has_its_standard_price_there_and_the_line_says_so() -> None:
    prices = book(
        [
            {"prices": {"input": "4", "output": "8", "cache_read": "1", "images": "9"}},
            {"tier": "batch", "prices": {"input": "2"}},
        ]
    )
    usage = used({"input": 1, "cache_read": 1, "output": 1, "reasoning": 1}, tier="batch")
    assert lines(prices, usage) == [
        ("input", 1, "2", "1"),
        ("cache_read", 1, "1", "1", "at the standard price"),
        ("output", 1, "8", "1", "at the standard price"),
        ("reasoning", 1, "8", "1", "as output, at the standard price"),
    ]
    assert cost(prices, usage) == 19
    assert (
        reason(prices, used(quantities={"images": "1"}, tier="batch"))
        == "acme m1 has no price for images in tier batch"
    )
    cache = used({"cache_write": 1}, tier="batch")
    assert reason(prices, cache) == "acme m1 has no price for cache_write in tier batch"


def test_a_tier_without_any_price_has_none() -> None:
    prices = book([{"prices": {"input": "4", "output": "8"}}, {"tier": "batch", "prices": {"input": "2"}}])
    assert (
        reason(prices, used({"input": 1}, tier="flex"))
        == "acme m1 has no price for input in tier flex: the tier has no price"
    )


def test_thinking_is_output_at_the_price_of_the_same_tier() -> None:
    prices = book(
        [
            {"prices": {"input": "0.00000125", "output": "0.00001"}},
            {"tier": "priority", "prices": {"input": "0.00000225", "output": "0.000018"}},
        ]
    )
    usage = used({"input": 7, "output": 1, "reasoning": 160}, tier="priority")
    assert cost(prices, usage) == Decimal("0.00291375")
    assert lines(prices, usage)[2] == ("reasoning", 160, "0.000018", "1", "as output")


def test_a_kind_that_its_tier_prices_at_another_length_is_not_guessed_at_this_one() -> None:
    prices = book(
        [
            {"up_to": 10, "prices": {"input": "4", "cache_read": "1"}},
            {"above": 10, "prices": {"input": "8"}},
            {"tier": "batch", "up_to": 10, "prices": {"input": "2"}},
            {"tier": "batch", "above": 10, "prices": {"output": "2"}},
        ]
    )
    assert cost(prices, used({"input": 11})) == 88
    at_this_length = "acme m1 has no price for {} at this prompt length"
    assert reason(prices, used({"input": 10, "cache_read": 1})) == at_this_length.format("cache_read")
    in_batch = "acme m1 has no price for {} in tier batch at this prompt length"
    assert reason(prices, used({"input": 11}, tier="batch")) == in_batch.format("input")
    assert cost(prices, used({"input": 9, "cache_read": 1}, tier="batch")) == 19
    assert reason(prices, used({"cache_read": 11}, tier="batch")) == in_batch.format("cache_read")


@pytest.mark.parametrize("tier", ["default", "on_demand"])
def test_other_names_of_the_standard_tier_mean_standard(tier: str) -> None:
    plain = book([{"prices": {"input": "4"}}, {"tier": "batch", "prices": {"input": "2"}}])
    by_length = book([{"up_to": 5, "prices": {"input": "4"}}, {"tier": "*", "prices": {"images": "1"}}])
    for prices in (plain, by_length):
        assert cost(prices, used({"input": 1}, tier=tier)) == 4
    assert reason(plain, used({"output": 1}, tier=tier)) == "acme m1 has no price for output"


def test_a_tier_that_was_only_asked_for_has_no_price() -> None:
    prices = book([{"tier": "*", "prices": {"input": "4", "images": "1"}}])
    asked = "acme m1 has no price for input in tier auto: that is what was asked for, not what was served"
    assert reason(prices, used({"input": 1}, tier="auto")) == asked
    assert "asked for" in reason(prices, used(quantities={"images": "1"}, tier="auto"))


def test_the_lines_have_no_exponents() -> None:
    prices = book(
        [{"prices": {"input": "1.3E-10", "output": "1E+2"}}], factors=[{"when": {"region": "eu"}, "factor": "1e1"}]
    )
    usage = used({"input": 1, "output": 1}, conditions={"region": "eu"})
    assert lines(prices, usage) == [("input", 1, "0.00000000013", "10"), ("output", 1, "100", "10")]


def test_a_list_can_hold_in_several_tiers_or_in_all() -> None:
    prices = book(
        [
            {"tier": ["batch", "flex"], "prices": {"input": "2"}},
            {"tier": "*", "prices": {"web_searches": "0.01"}},
        ]
    )
    for tier in ("batch", "flex"):
        assert cost(prices, used({"input": 1}, {"web_searches": "1"}, tier)) == Decimal("2.01")
    assert cost(prices, used({}, {"web_searches": "1"}, "priority")) == Decimal("0.01")
    assert reason(prices, used({"input": 1}, tier="priority")).startswith(
        "acme m1 has no price for input in tier priority"
    )


def test_a_tier_given_as_a_factor_costs_that_much_of_standard_where_it_has_no_price_of_its_own() -> None:
    prices = book(
        [{"prices": {"input": "4", "output": "8", "images": "1"}}, {"tier": "batch", "prices": {"output": "3"}}],
        factors=[{"tier": "batch", "factor": "0.5"}],
    )
    found = prices.price(used({"input": 1, "output": 1}, tier="batch"), MAY)
    assert isinstance(found, Priced)
    assert found.cost == 5
    assert found.lines == [("input", 1, "4", "0.5"), ("output", 1, "3", "1")]
    assert (
        reason(prices, used(quantities={"images": "1"}, tier="batch"))
        == "acme m1 has no price for images in tier batch"
    )


def test_a_factor_of_a_tier_keeps_the_conditions_of_the_standard_prices() -> None:
    prices = book(
        [{"prices": {"input": "4"}}, {"when": {"image_size": "4K"}, "prices": {"image_input": "6"}}],
        factors=[{"tier": "batch", "factor": "0.5"}],
    )
    assert cost(prices, used({"image_input": 1}, tier="batch", conditions={"image_size": "4K"})) == 3
    unsaid = "acme m1 has no price for image_input in tier batch: it depends on image_size"
    assert reason(prices, used({"image_input": 1}, tier="batch")) == unsaid


def test_a_factor_for_all_covers_quantities_too() -> None:
    prices = book(
        [{"prices": {"input": "4", "images": "1"}}], factors=[{"tier": "batch", "factor": "0.5", "applies_to": "all"}]
    )
    assert cost(prices, used({"input": 1}, {"images": "3"}, "batch")) == Decimal("3.5")


def test_factors_of_conditions_multiply_each_other_and_leave_quantities_alone() -> None:
    prices = book(
        [{"prices": {"input": "10", "images": "10"}}],
        factors=[{"when": {"region": "us"}, "factor": "1.1"}, {"when": {"speed": "fast"}, "factor": "6"}],
    )
    fast = {"region": "us", "speed": "fast"}
    assert cost(prices, used({"input": 1}, {"images": "1"}, conditions=fast)) == Decimal("76.0")
    assert cost(prices, used({"input": 1}, conditions={"speed": "slow", "region": "US"})) == 10


def test_a_condition_can_give_a_price_of_its_own_and_one_the_book_does_not_know_changes_nothing() -> None:
    prices = book(
        [
            {"prices": {"images": "0.04"}},
            {"when": {"image_size": "4K", "image_quality": "hd"}, "prices": {"images": "0.2"}},
        ]
    )
    assert cost(prices, used(quantities={"images": "1"})) == Decimal("0.04")
    assert cost(prices, used(quantities={"images": "1"}, conditions={"image_size": "4K"})) == Decimal("0.04")
    both = {"image_size": "4K", "image_quality": "hd", "mood": "blue"}
    assert cost(prices, used(quantities={"images": "1"}, conditions=both)) == Decimal("0.2")


def test_a_component_priced_by_a_condition_alone_needs_the_condition() -> None:
    prices = book([{"when": {"resolution": "720p"}, "prices": {"seconds": "0.1"}}])
    assert cost(prices, used(quantities={"seconds": "5"}, conditions={"resolution": "720p"})) == Decimal("0.5")
    expected = "acme m1 has no price for seconds: it depends on resolution"
    assert reason(prices, used(quantities={"seconds": "5"})) == expected
    assert reason(prices, used(quantities={"seconds": "5"}, conditions={"resolution": "4k"})) == expected


def test_a_star_is_any_reported_value_that_is_not_named() -> None:
    prices = book(
        [{"prices": {"input": "10"}}],
        factors=[{"when": {"region": "global"}, "factor": "1"}, {"when": {"region": "*"}, "factor": "1.1"}],
    )
    assert cost(prices, used({"input": 1})) == 10
    assert cost(prices, used({"input": 1}, conditions={"region": "global"})) == 10
    assert cost(prices, used({"input": 1}, conditions={"region": "eu-west-1"})) == 11


@pytest.mark.parametrize("kind", sorted(PROMPT_KINDS))
def test_every_kind_that_was_sent_counts_to_the_prompt_length(kind: str) -> None:
    sent = dict.fromkeys(PROMPT_KINDS, "1")
    prices = book([{"up_to": 100, "prices": sent}, {"above": 100, "prices": dict.fromkeys(PROMPT_KINDS, "2")}])
    other = "input" if kind != "input" else "cache_read"
    assert cost(prices, used({kind: 60, other: 40})) == 100
    assert cost(prices, used({kind: 61, other: 40})) == 202


def test_what_came_back_does_not_count_to_the_prompt_length() -> None:
    prices = book([{"up_to": 100, "prices": {"input": "1", "output": "1"}}, {"above": 100, "prices": {"input": "2"}}])
    assert cost(prices, used({"input": 100, "output": 50, "reasoning": 50})) == 200


def test_a_threshold_reprices_what_is_billed_as_another_kind_too() -> None:
    prices = book(
        [
            {"up_to": 10, "prices": {"input": "1", "output": "3", "reasoning": "3"}},
            {"above": 10, "prices": {"input": "2", "output": "6"}},
        ]
    )
    assert cost(prices, used({"input": 10, "reasoning": 1})) == 13
    assert cost(prices, used({"input": 11, "reasoning": 1})) == 28


def test_a_model_with_ranges_only_has_no_price_outside_them() -> None:
    prices = book([{"above": 10, "up_to": 20, "prices": {"input": "1"}}])
    assert cost(prices, used({"input": 11})) == 11
    assert cost(prices, used({"input": 20})) == 20
    for prompt in (10, 21):
        assert reason(prices, used({"input": prompt})) == "acme m1 has no price for input at this prompt length"


NIGHT = [{"hours": "22:30-06:15", "weekdays": [1, 5]}]


@pytest.mark.parametrize(
    ("at", "night"),
    [
        ("2026-05-04T22:29:59.999999+00:00", False),  # Monday
        ("2026-05-04T22:30:00+00:00", True),
        ("2026-05-05T06:14:59.999999+00:00", True),  # Tuesday, still the window of Monday
        ("2026-05-05T06:15:00+00:00", False),
        ("2026-05-04T03:00:00+00:00", False),  # Monday early belongs to Sunday, which has no window
        ("2026-05-08T23:00:00+00:00", True),  # Friday
        ("2026-05-09T05:00:00+00:00", True),
        ("2026-05-09T23:00:00+00:00", False),  # Saturday
        ("2026-05-05T00:30:00+02:00", True),  # Monday 22:30 in UTC
        ("2026-05-04T23:00:00+02:00", False),  # Monday 21:00 in UTC
    ],
)
def test_a_window_over_midnight_belongs_to_the_weekday_on_which_it_starts(at: str, night: bool) -> None:
    prices = book([{"prices": {"input": "2"}}, {"clock": NIGHT, "prices": {"input": "1"}}])
    assert cost(prices, used({"input": 1}), datetime.fromisoformat(at)) == (1 if night else 2)


def test_a_window_can_reach_over_the_end_of_the_week() -> None:
    prices = book(
        [{"prices": {"input": "2"}}, {"clock": [{"hours": "23:00-01:00", "weekdays": [7]}], "prices": {"input": "1"}}]
    )
    sunday_night = datetime(2026, 5, 3, 23, 30, tzinfo=UTC)
    assert cost(prices, used({"input": 1}), sunday_night) == 1
    assert cost(prices, used({"input": 1}), sunday_night + timedelta(hours=1)) == 1
    assert cost(prices, used({"input": 1}), sunday_night + timedelta(hours=2)) == 2


@pytest.mark.parametrize(
    ("at", "cheap"),
    [
        ("2026-01-16T21:30:00+00:00", True),  # 22:30 in Zurich, in winter
        ("2026-01-16T20:59:59+00:00", False),
        ("2026-07-17T20:00:00+00:00", True),  # 22:00 in Zurich, in summer
        ("2026-07-17T19:59:59+00:00", False),
        ("2026-07-18T03:59:59+00:00", True),  # Saturday before six, still the window of Friday
        ("2026-07-18T04:00:00+00:00", False),
        ("2026-07-16T20:30:00+00:00", False),  # Thursday
    ],
)
def test_a_window_is_in_the_zone_that_it_names(at: str, cheap: bool) -> None:
    friday_night = [{"hours": "22:00-06:00", "weekdays": [5], "zone": "Europe/Zurich"}]
    prices = book([{"prices": {"input": "2"}}, {"clock": friday_night, "prices": {"input": "1"}}])
    assert cost(prices, used({"input": 1}), datetime.fromisoformat(at)) == (1 if cheap else 2)


def test_windows_of_several_zones_stand_beside_each_other() -> None:
    prices = book(
        [
            {"prices": {"input": "4"}},
            {"clock": [{"hours": "08:00-09:00", "zone": "Asia/Tokyo"}], "prices": {"input": "1"}},
        ],
        factors=[{"clock": [{"hours": "08:00-09:00"}, {"hours": "08:00-09:00", "zone": "UTC"}], "factor": "0.5"}],
    )
    for hour, expected in ((23, "1"), (8, "2"), (12, "4")):
        assert cost(prices, used({"input": 1}), datetime(2026, 5, 4, hour, 30, tzinfo=UTC)) == Decimal(expected)


def test_half_price_at_night_can_be_a_factor() -> None:
    prices = book([{"prices": {"input": "2"}}], factors=[{"clock": [{"hours": "16:30-00:30"}], "factor": "0.5"}])
    zone = timezone(timedelta(hours=-5))
    assert cost(prices, used({"input": 1}), datetime(2026, 5, 4, 11, 30, tzinfo=zone)) == 1
    assert cost(prices, used({"input": 1}), datetime(2026, 5, 4, 11, 29, tzinfo=zone)) == 2


def test_weekdays_alone_are_whole_days() -> None:
    prices = book([{"prices": {"input": "2"}}, {"clock": [{"weekdays": [6, 7]}], "prices": {"input": "1"}}])
    for day, expected in ((datetime(2026, 5, 8, 23, 59, tzinfo=UTC), 2), (datetime(2026, 5, 9, tzinfo=UTC), 1)):
        assert cost(prices, used({"input": 1}), day) == expected


def test_of_lists_that_apply_the_last_one_wins() -> None:
    prices = book([{"prices": {"input": "1", "output": "1"}}, {"when": {"region": "eu"}, "prices": {"input": "3"}}])
    assert cost(prices, used({"input": 1, "output": 1}, conditions={"region": "eu"})) == 4


def test_a_situation_is_priced_the_same_however_often_it_comes_back() -> None:
    prices = book([{"prices": {"input": "1"}}, {"tier": "batch", "prices": {"input": "2"}}])
    seen = [cost(prices, used({"input": 1}, tier=tier)) for tier in ("standard", "batch") * 3]
    assert seen == [1, 2] * 3


def test_invented_tiers_and_condition_values_do_not_make_the_book_grow() -> None:
    prices = book([{"tier": "*", "prices": {"input": "1"}}], factors=[{"when": {"region": "us"}, "factor": "2"}])
    for number in range(500):
        assert cost(prices, used({"input": 1}, tier=f"tier{number}", conditions={"region": f"r{number}"})) == 1
    (shelf,) = prices._shelves.values()
    assert len(shelf.versions[0]._sheets) == 1


def test_the_demo_price_file_reads_whole_and_prices_real_calls() -> None:
    found = read_rappen_file(DEMO_FILE.read_bytes(), MAY)
    assert found.unreadable == ()
    prices = PriceBook(found.versions)
    assert prices.providers() == {"openai", "anthropic", "google", "mistral", "deepseek", "groq"}
    sonnet = Metered(
        "anthropic",
        "claude-sonnet-4-5-20250929",
        {"input": 1000, "cache_read": 20_000, "cache_write": 4000, "output": 500},
        {"web_searches": Decimal(2)},
    )
    # 0.003 + 0.006 + 0.015 + 0.0075 + 0.02
    assert cost(prices, sonnet) == Decimal("0.0515")
    gemini = Metered("google", "gemini-2.5-pro", {"input": 200_001, "output": 1000, "reasoning": 1000}, {})
    assert cost(prices, gemini) == Decimal("0.5300025")
    mini = Metered("openai", "gpt-5-mini", {"input": 3, "output": 1}, {})
    assert cost(prices, mini) == Decimal("0.00000275")
