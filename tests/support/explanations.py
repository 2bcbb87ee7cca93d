"""An explained charge or correction priced once more by hand: from what is printed alone, by what the documentation of
price files says, with nothing of the product's pricing; and so is a charge of storage."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any
from zoneinfo import ZoneInfo

__all__ = ["assert_explained", "assert_storage_explained"]

PRECISE = Context(prec=400)
MICRO = Decimal("0.000001")
OUTPUTS = {"output", "reasoning", "audio_output", "image_output"}
TOTALS = {"total", "provider_total"}
Json = Mapping[str, Any]


def assert_explained(explanation: Json) -> None:
    """What is printed leads from the event to the amount, each step to the last digit."""
    event, cost = explanation["event"], Decimal(explanation["baseCost"]["amount"])
    assert explanation["fault"] is None
    at = event["time"] if isinstance(event["time"], datetime) else datetime.fromisoformat(event["time"])
    if event["cost"] is not None:
        assert explanation["priceVersions"] == explanation["lines"] == []
        assert (cost, explanation["baseCost"]["currency"]) == (
            Decimal(event["cost"]["amount"]),
            event["cost"]["currency"],
        )
    else:
        (version,) = explanation["priceVersions"]
        assert (version["provider"], version["model"]) == (event["provider"], event["model"])
        assert version["currency"] == explanation["baseCost"]["currency"]
        assert _cost(explanation, version, at) == cost
    _assert_rated(explanation, cost)


def _assert_rated(explanation: Json, cost: Decimal) -> None:
    """Rate, markup and the one rounding."""
    rate, stored = Decimal(explanation["rate"]), explanation["storedRate"]
    if explanation["baseCost"]["currency"] == "CHF":
        assert (rate, stored) == (1, None)
    else:
        assert (Decimal(stored["rate"]), stored["currency"]) == (rate, explanation["baseCost"]["currency"])
    factor = 1 + Decimal(explanation["markupPercent"]).scaleb(-2)
    exact = PRECISE.multiply(PRECISE.multiply(cost, rate), factor)
    assert exact == Decimal(explanation["exactPrice"])
    assert explanation["storage"] is None
    correction = explanation["correction"]
    if correction is None:
        assert explanation["transaction"]["transactionType"] == "DEBIT"
        _assert_rounded(explanation, exact)
        return
    old = Decimal(correction["oldExactPrice"])
    assert Decimal(correction["newExactPrice"]) == exact
    assert Decimal(correction["difference"]) == PRECISE.subtract(exact, old)
    assert (explanation["transaction"]["transactionType"], correction["number"] > 0) == ("ADJUSTMENT", True)
    assert explanation["transaction"]["referenceId"] == str(explanation["corrects"]["transactionId"])
    _assert_rounded(explanation, PRECISE.subtract(exact, old))


def _assert_rounded(explanation: Json, charged: Decimal) -> None:
    """What is charged exactly becomes the amount; that of an adjustment is how the account moves."""
    total = PRECISE.add(charged, Decimal(explanation["carryBefore"]))
    amount = total.quantize(MICRO, ROUND_HALF_EVEN, PRECISE)
    assert PRECISE.subtract(total, amount) == Decimal(explanation["carryAfter"])
    assert Decimal(explanation["rounding"]["unrounded"]) == total
    assert Decimal(explanation["rounding"]["rounded"]) == amount
    shown = -amount if explanation["transaction"]["transactionType"] == "ADJUSTMENT" else amount
    assert shown == Decimal(explanation["amount"]) == Decimal(explanation["transaction"]["amount"])
    (posting,) = explanation["postings"]
    assert (Decimal(posting["amount"]), posting["contraAccount"]) == (-amount, "REVENUE")


def assert_storage_explained(explanations: Sequence[Json]) -> None:
    """The rows that charge one period lead from its peak to their amounts, and are its whole price together."""
    (storage,) = [dict(pairs) for pairs in {tuple(sorted(each["storage"].items(), key=str)) for each in explanations}]
    included = storage["includedMb"]
    above = 0 if included is None else max(0, storage["peakBytes"] - included * 1_000_000)
    assert storage["chargedBytes"] == above
    price = PRECISE.divide(Decimal(above), Decimal(1_000_000_000))
    for factor in ("pricePerGbMonth", "months"):
        price = PRECISE.multiply(price, Decimal(storage[factor]))
    assert price == Decimal(storage["exactPrice"])
    parts = [Decimal(each["exactPrice"]) for each in explanations]
    assert sum(parts) == price
    # Equal to the last micro-franc, but for the first one, which has what is left beyond those.
    assert max(parts) - min(parts) < 2 * MICRO
    for explanation in explanations:
        assert explanation["fault"] is None
        assert (explanation["event"], explanation["baseCost"], explanation["correction"]) == (None, None, None)
        _assert_rounded(explanation, Decimal(explanation["exactPrice"]))


def _cost(explanation: Json, version: Json, at: datetime) -> Decimal:
    event, sums = explanation["event"], Decimal(0)
    counts = {name: Decimal(count) for name, count in (event["tokens"] or {}).items() if name not in TOTALS}
    tokens = set(counts)
    counts |= {name: Decimal(count) for name, count in (event["quantities"] or {}).items() if Decimal(count)}
    prompt = sum(int(counts[name]) for name in tokens - OUTPUTS)
    assert {line["component"]: Decimal(line["count"]) for line in explanation["lines"]} == counts
    met = _Met(version, event, prompt, at)
    _assert_selected(explanation["selection"], met, version, prompt)
    for line in explanation["lines"]:
        price, factor = met.unit_price(line["component"], line["pricedAs"] or "", of_tokens=line["component"] in tokens)
        assert (price, factor) == (Decimal(line["unitPrice"]), Decimal(line["factor"])), line
        part = PRECISE.multiply(PRECISE.multiply(counts[line["component"]], price), factor)
        assert part == Decimal(line["cost"])
        sums = PRECISE.add(sums, part)
    return sums


def _assert_selected(selection: Json, met: "_Met", version: Json, prompt: int) -> None:
    parts = [*version["lists"], *version["factors"]]
    assert selection["serviceTier"] == met.tier
    assert selection["promptTokens"] == prompt
    borders = sorted({part[side] for part in parts for side in ("above", "up_to") if side in part})
    assert selection["above"] == max((each for each in borders if prompt > each), default=None)
    assert selection["upTo"] == min((each for each in borders if prompt <= each), default=None)
    named = {name for part in parts for name in part.get("when", {})}
    assert selection["conditions"] == {name: met.conditions.get(name) for name in named}
    clocks = [window for part in parts for window in part.get("clock", ()) if met.is_open(window)]
    assert len(selection["windows"]) == len({str(window) for window in clocks})


class _Met:
    """What an event is, for the selectors of a version."""

    def __init__(self, version: Json, event: Json, prompt: int, at: datetime) -> None:
        tier = event["service_tier"] or "standard"
        self.tier = {"default": "standard", "on_demand": "standard"}.get(tier, tier)
        self.conditions = event["conditions"] or {}
        self._version, self._prompt, self._at = version, prompt, at

    def unit_price(self, component: str, priced_as: str, *, of_tokens: bool) -> tuple[Decimal, Decimal]:
        """The listed price of a component, or of what it is priced as, and the product of the factors on it."""
        for part in priced_as.split(", "):
            component = part.removeprefix("as ") if part.startswith("as ") else component
        factors = [
            Decimal(factor["factor"])
            for factor in self._version["factors"]
            if "tier" not in factor and self._applies(factor) and (of_tokens or factor.get("applies_to") == "all")
        ]
        price = None if "at the standard price" in priced_as else self._listed(component, self.tier)
        if price is None:
            price = self._listed(component, "standard")
            of_tier = [factor for factor in self._version["factors"] if factor.get("tier") == self.tier]
            if "at the standard price" not in priced_as:
                factors.append(Decimal(of_tier[0]["factor"]))
        assert price is not None, component
        product = Decimal(1)
        for factor in factors:
            product = PRECISE.multiply(product, factor)
        return price, product

    def _listed(self, component: str, tier: str) -> Decimal | None:
        """The price in the last list that applies and has it."""
        found = None
        for each in self._version["lists"]:
            tiers = each.get("tier", "standard")
            tiers = [tiers] if isinstance(tiers, str) else tiers
            within = each.get("above", -1) < self._prompt <= each.get("up_to", self._prompt)
            if (tier in tiers or "*" in tiers) and within and self._applies(each) and component in each["prices"]:
                found = Decimal(each["prices"][component])
        return found

    def _applies(self, part: Json) -> bool:
        met = all(self._is(name, value) for name, value in part.get("when", {}).items())
        return met and (not part.get("clock") or any(map(self.is_open, part["clock"])))

    def _is(self, name: str, value: str) -> bool:
        reported = self.conditions.get(name)
        if value != "*":
            return bool(reported == value)
        parts = [*self._version["lists"], *self._version["factors"]]
        return reported is not None and reported not in {part.get("when", {}).get(name) for part in parts} - {"*"}

    def is_open(self, window: Json) -> bool:
        """Whether a clock window is open at the event's time."""
        local = self._at.astimezone(ZoneInfo(window.get("zone", "UTC")))
        begin, _, end = window.get("hours", "00:00-24:00").partition("-")
        first, last = (int(text[:2]) * 60 + int(text[3:]) for text in (begin, end))
        minute, day = local.hour * 60 + local.minute, local.isoweekday()
        days: Sequence[int] = window.get("weekdays", range(1, 8))
        if first < last:
            return day in days and first <= minute < last
        return (day in days and minute >= first) or ((day - 2) % 7 + 1 in days and minute < last)
