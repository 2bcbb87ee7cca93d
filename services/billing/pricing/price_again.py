"""Pricing a charge again, by the price book and the rates as they are now, from what its row keeps. Pure."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import Final, NamedTuple

from rappen_contracts.types import since_epoch
from rappen_contracts.usage.fast import Tokens, UsageData
from rappen_contracts.usage.v1 import TOKEN_KINDS
from services.billing.money import Exact, Markup, exact
from services.billing.pricing.derivation import Derivation, kept_usage
from services.billing.pricing.quotes import Quotes
from services.billing.pricing.rating import Parked, PriceSource, rate_usage

__all__ = ["PricedAgain", "price_again"]

_counts: Final = attrgetter(*TOKEN_KINDS)


class PricedAgain(NamedTuple):
    """The exact price in CHF by what holds now, possibly zero, and what it is from."""

    price: Exact
    source: PriceSource


def price_again(
    kept: Derivation, *, model: tuple[str | None, str | None], at: datetime, quotes: Quotes
) -> PricedAgain | Parked:
    """The price of usage of a (provider, model) at its own time by the tariff of the quotes, or what is missing there.

    The markup stays the one that it was charged with: a re-rating is of prices and rates. As with a charge, the fast
    form answers what it can (`quotes.py`), and the published one everything else. ArithmeticError or ValueError for a
    derivation that nobody can price.
    """
    markup = Markup.of(Decimal(kept.markup))
    quoted = quotes.price(_fast(kept, *model), _counted(kept.tokens), since_epoch(at), markup)
    if quoted is not None:
        return PricedAgain(*quoted)
    rated = rate_usage(kept_usage(kept, model), at, quotes.tariff, markup)
    return rated if isinstance(rated, Parked) else PricedAgain(exact(rated.exact), rated.source)


def _fast(kept: Derivation, provider: str | None, model: str | None) -> UsageData:
    """The usage as the fast form has it; who used it decides nothing."""
    return UsageData(
        "",
        "",
        provider=provider,
        model=model,
        cost=kept.cost,
        tokens=kept.tokens,
        quantities=kept.quantities,
        service_tier=kept.service_tier,
        conditions=kept.conditions,
    )


def _counted(tokens: Tokens | None) -> Sequence[int]:
    counts: Sequence[int] = () if tokens is None else _counts(tokens)
    return counts
