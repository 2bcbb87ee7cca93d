"""What a charge's row keeps is read in the form of now and in that of releases before; what was changed is named."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.billing.pricing import PriceList, PriceVersion, version_to_text
from services.billing.pricing.explained import (
    Corrected,
    KeptCharge,
    explain_charge,
    explain_correction,
    explain_reading,
    explain_usage,
)
from services.billing.pricing.kept_tariff import StoredPrice, StoredRate, kept_tariff

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
MODEL = ("acme", "large")
VERSION = PriceVersion(
    *MODEL, "USD", datetime(2026, 1, 1, tzinfo=UTC), (PriceList({"input": Decimal("0.000003")}),), id="7"
)
TARIFF = kept_tariff(
    [StoredPrice("7", version_to_text(VERSION), usable=True)],
    [StoredRate("5", "USD", datetime(2026, 1, 1, tzinfo=UTC), "0.8", usable=True)],
)
# 1,000 tokens at 0.000003 USD, at 0.8, with 50 %.
NOW_FORM = {
    "carry_before": "0.0000001",
    "carry_after": "0.0000001",
    "markup": "50",
    "rate": "5",
    "price": "7",
    "tokens": {"input": 1000, "provider_total": 1001},
    "metadata": {"team": "a"},
}
EARLIER = {
    "cost": "0.003",
    "currency": "USD",
    "rate": "0.8",
    "markup": "50",
    "exact": "0.0036",
    "carry_before": "0.0000001",
    "carry_after": "0.0000001",
    "price": "7",
    "lines": [["input", "1000", "0.000003", "1"], ["reasoning", "0", "0.000003", "1"]],
    "priced_as": {"x": "as y"},
    "tokens": {"input": 1000},
    "provider_total": 1001,
    "hold_id": "h",
    "conditions": {"region": "eu"},
}


def _explain(kept: dict[str, Any] | str, amount: int = 3_600, at: datetime | None = AT) -> Any:
    text = kept if isinstance(kept, str) else json.dumps(kept, separators=(",", ":"))
    return explain_charge(KeptCharge(text, amount, MODEL, at), TARIFF)


def test_the_form_of_now_leads_to_version_and_rate() -> None:
    found = _explain(NOW_FORM)
    assert found.fault is None
    assert (found.cost, found.currency, found.rate, found.exact) == (
        Decimal("0.003"),
        "USD",
        Decimal("0.8"),
        Decimal("0.0036"),
    )
    assert (found.stored_rate.id, found.version.id, found.markup) == ("5", "7", "50")
    assert list(found.lines) == [("input", 1000, "0.000003", "1")]
    assert found.usage.tokens == {"input": 1000, "provider_total": 1001}
    assert found.usage.metadata == {"team": "a"}
    assert (found.selection.tier, found.selection.prompt_tokens) == ("standard", 1000)
    assert explain_reading(json.dumps(NOW_FORM)) == ("7", "5")


def test_the_form_of_releases_before_says_it_in_itself() -> None:
    found = _explain(EARLIER)
    assert found.fault is None
    assert (found.cost, found.currency, found.rate, found.exact) == (
        Decimal("0.003"),
        "USD",
        Decimal("0.8"),
        Decimal("0.0036"),
    )
    # Which rate it was is not kept, its number is.
    assert (found.stored_rate, found.version.id) == (None, "7")
    assert found.lines[0] == ("input", Decimal(1000), "0.000003", "1")
    assert found.priced_as == {"x": "as y"}
    assert found.usage.tokens == {"input": 1000, "provider_total": 1001}
    assert (found.usage.hold_id, found.usage.conditions, found.usage.cost) == ("h", {"region": "eu"}, None)
    assert explain_reading(json.dumps(EARLIER)) == ("7", None)


def test_a_charge_by_cost_of_releases_before_has_that_cost() -> None:
    by_cost = {name: value for name, value in EARLIER.items() if name not in ("price", "lines", "priced_as", "tokens")}
    assert _explain(by_cost).usage.cost == ("0.003", "USD")


@pytest.mark.parametrize(
    ("kept", "amount", "at", "fault"),
    [
        (NOW_FORM, 3_601, AT, "was priced at 0.003601"),
        (NOW_FORM, 3_600, None, "a time from 2000 to 2199 is expected"),
        (NOW_FORM, 3_600, datetime(2025, 1, 1, tzinfo=UTC), "price 7 was not in force"),
        (NOW_FORM | {"price": "8"}, 3_600, AT, "price 8 is none of acme large"),
        (NOW_FORM | {"rate": "8"}, 3_600, AT, "rate 8 is none of USD"),
        (NOW_FORM | {"markup": "x"}, 3_600, AT, "cannot be priced again"),
        (NOW_FORM | {"tokens": {"output": 5}}, 3_600, AT, "has no price for output"),
        (EARLIER, 3_601, AT, "posted was 0.0036"),
        (EARLIER | {"rate": "0.9"}, 3_600, AT, "cost, rate and markup make 0.00405"),
        (EARLIER | {"exact": "NaN"}, 3_600, AT, "cannot be priced again"),
        ("", 3_600, AT, "derivation: "),
        ("[]", 3_600, AT, "derivation: "),
        ('{"carry_before":"0","carry_after":"0","carry_after":"1","markup":"0"}', 3_600, AT, "not as a charge writes"),
    ],
)
def test_what_does_not_lead_to_its_amount_is_named(kept: Any, amount: int, at: datetime | None, fault: str) -> None:
    found = _explain(kept, amount, at)
    assert found.fault is not None
    assert fault in found.fault


# A correction of that charge keeps the same usage, with what its price is from by now.
CHARGED = json.dumps(NOW_FORM, separators=(",", ":"))
CHARGE = KeptCharge(CHARGED, 3_600, MODEL, AT)


def _corrected(amount: int, *, before: str | None = None, after: str = "0.0036", **kept: Any) -> Any:
    text = json.dumps(NOW_FORM | kept, separators=(",", ":"))
    stood = Corrected(CHARGE, None if before is None else Decimal(before), Decimal(after))
    return explain_correction(KeptCharge(text, amount, MODEL, AT), stood, TARIFF)


def test_a_correction_leads_from_the_price_before_to_the_one_by_now() -> None:
    found = _corrected(600, before="0.0042")
    assert (found.fault, found.exact_before, found.exact) == (None, Decimal("0.0042"), Decimal("0.0036"))
    assert found.rounded == Decimal("-0.0006")
    assert (found.cost, found.currency, found.rate) == (Decimal("0.003"), "USD", Decimal("0.8"))
    # The first one of a charge comes after the price that the charge's own row says.
    first = _corrected(0)
    assert (first.fault, first.exact_before, first.rounded) == (None, Decimal("0.0036"), 0)


@pytest.mark.parametrize(
    ("amount", "given", "fault"),
    [
        (601, {"before": "0.0042"}, "was priced at 0.003599"),
        (600, {"before": "0.0042", "after": "0.0037"}, "was corrected to 0.0036"),
        (600, {"before": "0.0042", "price": "8"}, "cannot be priced again: price 8 is none of acme large"),
        (600, {"before": "0.0042", "carry_after": "x"}, "cannot be priced again"),
    ],
)
def test_a_correction_that_was_changed_says_so(amount: int, given: dict[str, Any], fault: str) -> None:
    assert fault in (_corrected(amount, **given).fault or "")


def test_of_what_is_taken_back_there_is_the_usage_alone() -> None:
    for kept in (CHARGED, json.dumps(EARLIER)):
        found = explain_usage(kept)
        assert (found.fault, found.exact, found.usage.tokens) == (None, None, {"input": 1000, "provider_total": 1001})
    assert explain_usage("[]").fault is not None
