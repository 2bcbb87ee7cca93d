"""What goes into pricing and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from services.billing.domain.prices.version import STANDARD

__all__ = ["Line", "Metered", "Priced", "Unpriced"]

# Component, count, listed unit price, its factor (the last two as text, exactly) and, where the component has no price
# of its own, what it was priced as. The cost is the sum of count x unit price x factor.
Line = tuple[str, int | Decimal, *tuple[str, ...]]

_NOTHING: Mapping[str, str] = {}


class Metered(NamedTuple):
    """The priced part of a usage event; `tokens` are the disjoint kinds without their totals."""

    provider: str
    model: str
    tokens: Mapping[str, int]
    quantities: Mapping[str, Decimal]
    service_tier: str = STANDARD
    conditions: Mapping[str, str] = _NOTHING


class Priced(NamedTuple):
    """The exact cost before markup, in `currency`, how it came about, and the price version it is from."""

    cost: Decimal
    currency: str
    lines: Sequence[Line]
    valid_from: datetime
    version_id: str


class Unpriced(NamedTuple):
    """No price was found; the reason names what is missing."""

    reason: str
