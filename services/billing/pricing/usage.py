"""The input and the results of pricing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from services.billing.pricing.version import STANDARD

__all__ = ["NOTHING", "Line", "Metered", "Priced", "Unpriced"]

# Component, count, listed unit price, factor on it (the last two as text, exactly); the cost is the sum of
# count x unit price x factor.
Line = tuple[str, int | Decimal, str, str]

NOTHING: Final[Mapping[str, str]] = {}


class Metered(NamedTuple):
    """The priced part of a usage event; `tokens` are the disjoint kinds without their totals."""

    provider: str
    model: str
    tokens: Mapping[str, int]
    quantities: Mapping[str, Decimal]
    service_tier: str = STANDARD
    conditions: Mapping[str, str] = NOTHING


class Priced(NamedTuple):
    """The exact cost before markup, in `currency`, how it came about, and the price version it is from.

    `priced_as` names the components that have no price of their own there, and what they were priced as.
    """

    cost: Decimal
    currency: str
    lines: Sequence[Line]
    valid_from: datetime
    version_id: str
    priced_as: Mapping[str, str] = NOTHING


class Unpriced(NamedTuple):
    """No price was found; the reason names what is missing."""

    reason: str
