"""Stripe's integers and exact amounts: how many minor units make one unit depends on the currency."""

from decimal import Decimal

__all__ = ["from_minor", "to_minor"]

# As Stripe charges them. ISK, UGX, HUF and TWD have two places there, whatever the currencies themselves have.
_NO_PLACES = frozenset(
    ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF")
)
_THREE_PLACES = frozenset(("BHD", "JOD", "KWD", "OMR", "TND"))


def _places(currency: str) -> int:
    if currency in _NO_PLACES:
        return 0
    return 3 if currency in _THREE_PLACES else 2


def from_minor(units: int, currency: str) -> Decimal:
    """The amount of a number of minor units; `currency` is in capitals."""
    return Decimal(units).scaleb(-_places(currency))


def to_minor(amount: Decimal, currency: str) -> int:
    """The minor units of an amount; raises ValueError for one that is no whole number of them."""
    units = amount.scaleb(_places(currency))
    if units != units.to_integral_value():
        raise ValueError(f"{amount} {currency} is no whole number of minor units")
    return int(units)
