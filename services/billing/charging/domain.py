"""How the amount of a charge came about. Pure."""

from collections.abc import Mapping
from decimal import Decimal

from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.money import plain
from services.billing.pricing import Priced
from services.billing.pricing.rating import RatedUsage

__all__ = ["derivation"]


def derivation(
    data: UsageRecorded,
    rated: RatedUsage,
    remainder_before: Decimal,
    remainder_after: Decimal,
    tokens: Mapping[str, int],
) -> dict[str, object]:
    """Everything that explains an amount; decimals are strings without exponent, so that every reader reads them."""
    price = rated.price
    parts: dict[str, object] = {
        "cost": plain(rated.cost),
        "currency": rated.currency,
        "rate": plain(rated.rate),
        "markup": rated.markup.text,
        "exact": plain(rated.exact),
        # The names under which remainders have been stored and shown from the first release on.
        "carry_before": plain(remainder_before),
        "carry_after": plain(remainder_after),
    }
    if price is not None:
        _explain_price(parts, price)
    if tokens:
        parts["tokens"] = tokens
        if data.tokens is not None and data.tokens.provider_total is not None:
            parts["provider_total"] = data.tokens.provider_total
    if data.quantities is not None:
        parts["quantities"] = {name: plain(quantity) for name, quantity in data.quantities.items()}
    if data.hold_id is not None:
        parts["hold_id"] = str(data.hold_id)
    if data.service_tier is not None:
        parts["service_tier"] = data.service_tier
    if data.conditions is not None:
        parts["conditions"] = data.conditions
    if data.response_id is not None:
        parts["response_id"] = data.response_id
    if data.metadata is not None:
        parts["metadata"] = data.metadata
    return parts


def _explain_price(parts: dict[str, object], price: Priced) -> None:
    parts["price"] = price.version_id
    parts["lines"] = [(name, plain(count), unit, factor) for name, count, unit, factor in price.lines]
    if price.priced_as:
        parts["priced_as"] = price.priced_as
