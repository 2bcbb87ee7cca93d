"""What a ledger row keeps of how its amount came about, and what is computed again from it: the amount for the audit,
and what a re-rating prices.

Kept are the ids of the price version and of the rate, which never change, the markup, what was metered or charged, and
the account's rounding remainder before and after, from which with the amount the exact price follows. Unit prices,
factors and sums are not kept, because the version has them. Rows of releases before have another form, which says all
of it in itself.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import msgspec

from rappen_contracts.usage.fast import Cost, Tokens, UsageData
from rappen_contracts.usage.v1 import TOKEN_KINDS, UsageRecorded
from services.billing.money import (
    EXACT,
    Exact,
    Markup,
    converted,
    exact,
    exact_difference,
    exact_of_micro,
    exact_sum,
    plain,
    with_markup,
)
from services.billing.pricing.rates import CHF, Rate
from services.billing.pricing.rating import Billable, PriceSource, ProviderCost, RatedUsage
from services.billing.pricing.sheet import PricedVersion
from services.billing.pricing.usage import Metered, Priced, Unpriced
from services.billing.pricing.version import STANDARD

__all__ = [
    "BEGINNING",
    "Derivation",
    "KeptRate",
    "KeptRemainders",
    "KeptTariff",
    "KeptVersion",
    "corrected_derivation",
    "derivation",
    "kept_usage",
    "posted_price",
    "read_derivation",
    "recomputed",
]


class Derivation(msgspec.Struct, omit_defaults=True, gc=False):
    """As it is stored, in this order; decimals are text without an exponent, so that every reader reads them. The names
    of the remainders (CHF) are those under which they have been stored and shown from the first release on."""

    carry_before: str
    carry_after: str
    markup: str
    rate: str | None = None
    price: str | None = None
    cost: Cost | None = None
    # The kinds that occurred, and the totals that were reported.
    tokens: Tokens | None = None
    quantities: dict[str, str] | None = None
    service_tier: str | None = None
    conditions: dict[str, str] | None = None
    hold_id: str | None = None
    response_id: str | None = None
    metadata: dict[str, str] | None = None


# What no form of releases before begins with.
BEGINNING = '{"carry_before":"'
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Derivation).decode


def derivation(
    data: UsageRecorded | UsageData, source: PriceSource, remainder_before: str, remainder_after: str
) -> bytes:
    """The derivation of an amount, as JSON; remainders are as `remainder_text` writes them."""
    # By position and without unpacking, which takes half as long again, because this is done for each event.
    if isinstance(data, UsageData):
        return _encode(
            Derivation(
                remainder_before,
                remainder_after,
                source.markup,
                source.rate,
                source.price,
                data.cost,
                data.tokens,
                data.quantities,
                data.service_tier,
                data.conditions,
                data.hold_id,
                data.response_id,
                data.metadata,
            )
        )
    return _encode(
        Derivation(
            remainder_before,
            remainder_after,
            *source,
            None if data.cost is None else Cost(_text(data.cost.amount), data.cost.currency),
            None if data.tokens is None else Tokens(**dict(data.tokens)),
            None if data.quantities is None else {name: _text(count) for name, count in data.quantities.items()},
            data.service_tier,
            data.conditions,
            None if data.hold_id is None else str(data.hold_id),
            data.response_id,
            data.metadata,
        )
    )


def corrected_derivation(kept: Derivation, source: PriceSource, remainder_before: str, remainder_after: str) -> bytes:
    """The derivation of a correction: the usage of its charge, whose derivation is given, and what its price is from
    by now."""
    return _encode(
        Derivation(
            remainder_before,
            remainder_after,
            *source,
            kept.cost,
            kept.tokens,
            kept.quantities,
            kept.service_tier,
            kept.conditions,
            kept.hold_id,
            kept.response_id,
            kept.metadata,
        )
    )


def _text(number: Decimal) -> str:
    return plain(number.normalize(EXACT))


def read_derivation(text: str) -> Derivation:
    """The derivation that a row keeps; ValueError for one of another form.

    What begins as a charge writes it has to be wholly so: with a name twice, two readers would read two numbers.
    """
    try:
        kept = _decode(text)
    except msgspec.MsgspecError as error:
        raise ValueError(f"derivation: {error}") from error
    if text.startswith(BEGINNING) and _encode(kept) != text.encode():
        raise ValueError("derivation: not as a charge writes it")
    return kept


class KeptRemainders(Protocol):
    """What every derivation begins with: the account's rounding remainder (CHF) before and after."""

    carry_before: str
    carry_after: str


def posted_price(kept: KeptRemainders, amount: int) -> Exact:
    """The exact price of a row that moved `amount` (micro-CHF) from its account: that, and what it left of the
    account's remainder. ArithmeticError or ValueError for remainders that nobody can read."""
    left = exact_difference(exact(Decimal(kept.carry_after)), exact(Decimal(kept.carry_before)))
    return exact_sum(exact_of_micro(amount), left)


def kept_usage(kept: Derivation, model: tuple[str | None, str | None]) -> Billable:
    """What decides on the price of usage of a (provider, model), out of what its row keeps."""
    if kept.cost is not None:
        return ProviderCost(Decimal(kept.cost.amount), kept.cost.currency)
    provider, name = model
    if provider is None or name is None:
        return None
    return Metered(
        provider,
        name,
        _occurred(kept.tokens),
        {name: Decimal(count) for name, count in (kept.quantities or {}).items()},
        kept.service_tier or STANDARD,
        kept.conditions or {},
    )


class KeptVersion(NamedTuple):
    """A price version, and before which time it held when it was recorded."""

    priced: PricedVersion
    until: datetime


class KeptRate(NamedTuple):
    """A rate, and before which time it held when it was recorded."""

    rate: Rate
    until: datetime


class KeptTariff(NamedTuple):
    """Price versions and rates by the ids under which derivations name them."""

    versions: Mapping[str, KeptVersion]
    rates: Mapping[str, KeptRate]


def recomputed(
    kept: Derivation, *, model: tuple[str | None, str | None], at: datetime, tariff: KeptTariff
) -> RatedUsage:
    """The price of usage of a (provider, model) at a time, computed in the published way from what its row keeps.
    ValueError, with the reason, for a derivation that leads to no price."""
    usage = kept_usage(kept, model)
    price: Priced | None = None
    if isinstance(usage, ProviderCost):
        cost, currency = usage
    else:
        price = _priced(kept, usage, model, at, tariff)
        cost, currency = price.cost, price.currency
    rate = CHF if currency == CHF.currency and kept.rate is None else _rate(kept, currency, at, tariff)
    markup = Markup.of(Decimal(kept.markup))
    return RatedUsage(with_markup(converted(cost, rate.rate), markup), cost, currency, rate, markup, price)


def _rate(kept: Derivation, currency: str, at: datetime, tariff: KeptTariff) -> Rate:
    found = tariff.rates.get(kept.rate or "")
    if found is None or found.rate.currency != currency:
        raise ValueError(f"rate {kept.rate} is none of {currency}")
    if not found.rate.valid_from <= at < found.until:
        raise ValueError(f"rate {kept.rate} was not in force at {at}")
    return found.rate


def _priced(
    kept: Derivation, usage: Metered | None, model: tuple[str | None, str | None], at: datetime, tariff: KeptTariff
) -> Priced:
    known = tariff.versions.get(kept.price or "")
    if usage is None or known is None or (known.priced.version.provider, known.priced.version.model) != model:
        raise ValueError(f"price {kept.price} is none of {model[0]} {model[1]}")
    version = known.priced
    if not version.version.valid_from <= at < known.until:
        raise ValueError(f"price {kept.price} was not in force at {at}")
    found = version.price(usage, at)
    if isinstance(found, Unpriced):
        raise ValueError(found.reason)
    return found


def _occurred(tokens: Tokens | None) -> dict[str, int]:
    counts: dict[str, Any] = {} if tokens is None else {kind: getattr(tokens, kind) for kind in TOKEN_KINDS}
    return {kind: count for kind, count in counts.items() if count}
