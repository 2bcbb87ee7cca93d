"""How the amount of a charge or of a correction of it came about, as people read it, out of what its row keeps: in the
form of now, which leads to the price version and the rate, or in that of releases before, which says all of it in
itself. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from rappen_contracts.usage.v1 import TOKEN_KINDS
from services.billing.money import EXACT, exact, exact_sum, in_chf
from services.billing.pricing import OUT_OF_TIME, PriceVersion, Rate
from services.billing.pricing.derivation import (
    BEGINNING,
    Derivation,
    KeptTariff,
    kept_usage,
    posted_price,
    read_derivation,
    recomputed,
)
from services.billing.pricing.sheet import Selection
from services.billing.pricing.usage import NOTHING, Line, Metered

__all__ = [
    "Corrected",
    "Explained",
    "KeptCharge",
    "KeptUsage",
    "explain_charge",
    "explain_correction",
    "explain_reading",
    "explain_usage",
]


@dataclass(frozen=True, slots=True)
class KeptUsage:
    """What was metered or charged, as the event said it."""

    cost: tuple[str, str] | None = None
    tokens: Mapping[str, int] | None = None
    quantities: Mapping[str, str] | None = None
    service_tier: str | None = None
    conditions: Mapping[str, str] | None = None
    hold_id: str | None = None
    response_id: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """From usage to its exact price and the rounding of it; of a correction, of how much more that is than the exact
    price before. What a row does not say is None; `fault` is why it does not lead to its price, where somebody has
    changed it or what it names."""

    usage: KeptUsage
    cost: Decimal | None = None
    currency: str | None = None
    rate: Decimal | None = None
    stored_rate: Rate | None = None
    markup: str | None = None
    exact: Decimal | None = None
    exact_before: Decimal | None = None
    carry_before: Decimal | None = None
    carry_after: Decimal | None = None
    lines: Sequence[Line] = ()
    priced_as: Mapping[str, str] = field(default_factory=dict)
    version: PriceVersion | None = None
    selection: Selection | None = None
    fault: str | None = None

    @property
    def rounded(self) -> Decimal | None:
        """What was rounded with the remainder before: the exact price, or its difference to the one before."""
        if self.exact is None or self.exact_before is None:
            return self.exact
        return EXACT.subtract(self.exact, self.exact_before)


class KeptCharge(NamedTuple):
    """A charge: its derivation, what was posted (micro-CHF), of which (provider, model), and when it was used; None for
    a time that lies outside the years of the platform."""

    derivation: str
    amount: int
    model: tuple[str | None, str | None]
    at: datetime | None


class Corrected(NamedTuple):
    """The exact prices (CHF) at which a charge stood before a correction of it, and from then on, as recorded; None
    before it for the first one of a charge, which stood at its own."""

    charge: KeptCharge
    before: Decimal | None
    after: Decimal


class _Earlier(msgspec.Struct):
    """The form of releases before: cost, currency, rate and exact price beside the inputs, and the priced lines."""

    cost: str
    currency: str
    rate: str
    markup: str
    exact: str
    carry_before: str
    carry_after: str
    price: str | None = None
    lines: list[tuple[str, str, str, str]] = []
    priced_as: dict[str, str] = {}
    tokens: dict[str, int] | None = None
    provider_total: int | None = None
    quantities: dict[str, str] | None = None
    hold_id: str | None = None
    service_tier: str | None = None
    conditions: dict[str, str] | None = None
    response_id: str | None = None
    metadata: dict[str, str] | None = None


_decode_earlier = msgspec.json.Decoder(_Earlier).decode


def explain_reading(text: str) -> tuple[str | None, str | None]:
    """The ids of the price version and of the rate that a derivation names: what has to be read to explain it."""
    try:
        kept = _read(text)
    except ValueError:
        return None, None
    return kept.price, kept.rate if isinstance(kept, Derivation) else None


def explain_charge(charge: KeptCharge, tariff: KeptTariff) -> Explained:
    """The derivation of a charge, computed again; `tariff` has what `explain_reading` named."""
    try:
        kept = _read(charge.derivation)
    except ValueError as error:
        return Explained(KeptUsage(), fault=str(error))
    try:
        if isinstance(kept, _Earlier):
            return _explain_earlier(kept, charge, tariff)
        return _explain(kept, charge, tariff, charged=in_chf(posted_price(kept, charge.amount)))
    except (ArithmeticError, ValueError) as error:
        usage = _usage_of(kept) if isinstance(kept, Derivation) else _usage_of_earlier(kept)
        return Explained(usage, fault=f"cannot be priced again: {error or type(error).__name__}")


def explain_correction(correction: KeptCharge, corrected: Corrected, tariff: KeptTariff) -> Explained:
    """The derivation of a correction, computed again: from the usage of its charge to the exact price by what it names,
    and from the difference between that and the price before to the amount of the row."""
    usage = KeptUsage()
    try:
        kept = read_derivation(correction.derivation)
        usage = _usage_of(kept)
        before = corrected.before
        if before is None:
            before = in_chf(posted_price(read_derivation(corrected.charge.derivation), corrected.charge.amount))
        # The amount of an adjustment is how the account moves.
        after = in_chf(exact_sum(exact(before), posted_price(kept, -correction.amount)))
        explained = replace(_explain(kept, correction, tariff, charged=after), exact_before=before)
    except (ArithmeticError, ValueError) as error:
        return Explained(usage, fault=f"cannot be priced again: {error or type(error).__name__}")
    if explained.fault is None and corrected.after != after:
        return replace(explained, fault=f"was corrected to {after:f}, recorded is {corrected.after:f}")
    return explained


def explain_usage(text: str) -> Explained:
    """The usage alone that a charge was for: for what takes the charge back, whose amount is that of the charge."""
    try:
        kept = _read(text)
    except ValueError as error:
        return Explained(KeptUsage(), fault=str(error))
    return Explained(_usage_of(kept) if isinstance(kept, Derivation) else _usage_of_earlier(kept))


def _read(text: str) -> Derivation | _Earlier:
    if text.startswith(BEGINNING):
        return read_derivation(text)
    try:
        return _decode_earlier(text)
    except msgspec.MsgspecError:
        return read_derivation(text)


def _explain(kept: Derivation, charge: KeptCharge, tariff: KeptTariff, *, charged: Decimal) -> Explained:
    """What a row keeps, priced again, against the exact price that its amount says."""
    if charge.at is None:
        raise ValueError(OUT_OF_TIME)
    rated = recomputed(kept, model=charge.model, at=charge.at, tariff=tariff)
    price = rated.price
    usage = kept_usage(kept, charge.model)
    version = selection = None
    if price is not None and isinstance(usage, Metered):
        priced = tariff.versions[price.version_id].priced
        version = priced.version
        selection = priced.selection(usage, charge.at)
    return Explained(
        _usage_of(kept),
        rated.cost,
        rated.currency,
        rated.rate.rate,
        rated.rate if rated.rate.id else None,
        kept.markup,
        rated.exact,
        None,
        _number(kept.carry_before),
        _number(kept.carry_after),
        () if price is None else price.lines,
        NOTHING if price is None else price.priced_as,
        version,
        selection,
        None if rated.exact == charged else f"was priced at {charged:f}, its price is {rated.exact:f}",
    )


def _usage_of(kept: Derivation) -> KeptUsage:
    tokens = kept.tokens
    counts = {}
    if tokens is not None:
        totals = ("total", "provider_total")
        counts = {name: count for name in (*TOKEN_KINDS, *totals) if (count := getattr(tokens, name))}
    return KeptUsage(
        None if kept.cost is None else (kept.cost.amount, kept.cost.currency),
        counts or None,
        kept.quantities,
        kept.service_tier,
        kept.conditions,
        kept.hold_id,
        kept.response_id,
        kept.metadata,
    )


def _explain_earlier(kept: _Earlier, charge: KeptCharge, tariff: KeptTariff) -> Explained:
    cost, rate, markup, price_then = map(_number, (kept.cost, kept.rate, kept.markup, kept.exact))
    before, after = _number(kept.carry_before), _number(kept.carry_after)
    price = EXACT.multiply(EXACT.multiply(cost, rate), EXACT.add(100, markup)).scaleb(-2, EXACT)
    posted = EXACT.subtract(EXACT.add(before, price_then), after)
    right = price == price_then and posted.scaleb(6, EXACT) == charge.amount
    version = tariff.versions.get(kept.price or "")
    return Explained(
        _usage_of_earlier(kept),
        cost,
        kept.currency,
        rate,
        None,
        kept.markup,
        price_then,
        None,
        before,
        after,
        [(name, _number(count), unit, factor) for name, count, unit, factor in kept.lines],
        kept.priced_as,
        None if version is None else version.priced.version,
        None,
        None if right else f"cost, rate and markup make {price:f}, posted was {posted:f}",
    )


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(f"{text} is no number")
    return number


def _usage_of_earlier(kept: _Earlier) -> KeptUsage:
    counts = dict(kept.tokens or {})
    if kept.provider_total is not None:
        counts["provider_total"] = kept.provider_total
    return KeptUsage(
        # A charge that names no price is by the provider's own cost.
        (kept.cost, kept.currency) if kept.price is None else None,
        counts or None,
        kept.quantities,
        kept.service_tier,
        kept.conditions,
        kept.hold_id,
        kept.response_id,
        kept.metadata,
    )
