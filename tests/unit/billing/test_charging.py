"""What is kept with a charge for ever: every number is written so that any reader reads it."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from rappen_contracts.types import parse_decimal
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.money import Markup, exact, plain, post, remainder_text
from services.billing.pricing import LATEST, PriceBook, Rate, RateTable
from services.billing.pricing.derivation import (
    KeptRate,
    KeptTariff,
    KeptVersion,
    derivation,
    read_derivation,
    recomputed,
)
from services.billing.pricing.rating import Parked, RatedUsage, Tariff, billable, rate_usage
from services.billing.pricing.sheet import PricedVersion
from services.billing.pricing.version import Factor, PriceList, PriceVersion

SINCE = datetime(2020, 1, 1, tzinfo=UTC)
AT = datetime(2026, 5, 4, tzinfo=UTC)
# As drivers hand them back: a numeric without scale may come with an exponent.
PRICES = {"input": Decimal("1E+2"), "output": Decimal("1.3E-10"), "images": Decimal("2E+1")}
VERSION = PriceVersion(
    "acme",
    "m",
    "USD",
    SINCE,
    (PriceList(PRICES),),
    (Factor(Decimal("1E+1"), when={"region": "eu"}),),
    id="1",
)


REMAINDER = Decimal("1E-20")


def _kept(markup: str, **data: Any) -> tuple[dict[str, Any], RatedUsage]:
    """What is kept of a charge, and its price computed again from that."""
    event = {"mandate_id": "m", "user_id": "u", "provider": "acme", "model": "m", **data}
    usage = UsageRecorded.model_validate(event)
    tokens = usage.tokens.counts() if usage.tokens else {}
    rate = Rate("USD", SINCE, Decimal("1E+2"), "7")
    tariff = Tariff(1, PriceBook([VERSION]), RateTable([rate]))
    rated = rate_usage(billable(usage, tokens), AT, tariff, Markup.of(Decimal(markup)))
    assert not isinstance(rated, Parked)
    _, remainder = post(exact(rated.exact), exact(REMAINDER))
    text = derivation(usage, rated.source, remainder_text(exact(REMAINDER)), remainder_text(remainder)).decode()
    kept = KeptTariff({"1": KeptVersion(PricedVersion(VERSION), LATEST)}, {"7": KeptRate(rate, LATEST)})
    again = recomputed(read_derivation(text), model=("acme", "m"), at=AT, tariff=kept)
    assert again == rated
    explained: dict[str, Any] = json.loads(text)
    return explained, again


def _texts(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in _texts(value)]
    if isinstance(node, list):
        return [text for value in node for text in _texts(value)]
    return [node] if isinstance(node, str) else []


@pytest.mark.parametrize("amount", ["10000", "1E+4", "10000.00", "+1e4"])
def test_round_numbers_are_written_in_full(amount: str) -> None:
    explained, rated = _kept("1E+2", cost={"amount": amount, "currency": "USD"})
    assert explained["cost"] == {"amount": "10000", "currency": "USD"}
    assert (explained["rate"], explained["markup"]) == ("7", "100")
    assert rated.exact == 2_000_000
    assert explained["carry_before"] == "0.00000000000000000001"


@pytest.mark.parametrize(
    "data",
    [
        {"cost": {"amount": "1E+8", "currency": "USD"}},
        {"cost": {"amount": "1e-24", "currency": "CHF"}},
        {"tokens": {"input": 10**15, "output": 3}},
        {"tokens": {"input": 1}, "quantities": {"images": "1E+3"}, "conditions": {"region": "eu"}},
    ],
)
@pytest.mark.parametrize("markup", ["0", "0E-10", "5E+1", "33.3"])
def test_no_number_that_is_kept_has_an_exponent(data: dict[str, Any], markup: str) -> None:
    explained, rated = _kept(markup, **data)
    numbers = [explained[name] for name in ("markup", "carry_before", "carry_after")]
    numbers += [explained["cost"]["amount"]] if "cost" in explained else []
    assert not {"E", "e"} & {*"".join(numbers)}
    for _, _, unit, factor in () if rated.price is None else rated.price.lines:
        assert not {"E", "e"} & {*unit, *factor}
    for quantity in explained.get("quantities", {}).values():
        assert parse_decimal(quantity) == Decimal("1E+3")
        assert quantity == "1000"


def test_a_derivation_that_leads_to_no_price_says_why() -> None:
    kept = KeptTariff({}, {})
    for text, why in (
        ('{"carry_before":"0","carry_after":"0","markup":"1","price":"9","tokens":{"input":1}}', "price 9 is none of"),
        (
            '{"carry_before":"0","carry_after":"0","markup":"1","cost":{"amount":"1","currency":"USD"}}',
            "rate None is none of USD",
        ),
        ('{"carry_before":"0"}', "derivation: "),
        ("", "derivation: "),
    ):
        with pytest.raises(ValueError, match=why):
            recomputed(read_derivation(text), model=("acme", "m"), at=AT, tariff=kept)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Decimal("1E+4"), "10000"),
        (Decimal("0E-7"), "0.0000000"),
        (Decimal("-1.5E-9"), "-0.0000000015"),
        (Decimal("12.340"), "12.340"),
        (10**20, "1" + "0" * 20),
    ],
)
def test_a_number_is_written_plainly(number: Decimal | int, text: str) -> None:
    assert plain(number) == text
