"""The price book: finds the version valid at an event's own time and prices usage by it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from services.billing.pricing.bounds import LATEST, utc_text
from services.billing.pricing.sheet import PricedVersion
from services.billing.pricing.usage import Metered, Priced, Unpriced
from services.billing.pricing.version import PriceVersion

__all__ = ["PriceBook"]


class _Shelf(NamedTuple):
    """The versions of one model, oldest first, and the times from which they hold."""

    starts: list[datetime]
    versions: list[PricedVersion]


class PriceBook:
    """All price versions, given in the order in which they were recorded.

    Of versions with the same `valid_from` the one recorded last holds: that is how a price is corrected.
    """

    def __init__(self, versions: Iterable[PriceVersion]) -> None:
        self._shelves: dict[tuple[str, str], _Shelf] = {}
        for version in sorted(versions, key=lambda each: each.valid_from):
            shelf = self._shelves.setdefault((version.provider, version.model), _Shelf([], []))
            shelf.starts.append(version.valid_from)
            shelf.versions.append(PricedVersion(version))
        self._providers = frozenset(provider for provider, _ in self._shelves)

    def price(self, usage: Metered, at: datetime) -> Priced | Unpriced:
        """The exact cost of usage at a time, or what is missing; provider and model are matched exactly."""
        shelf = self._shelves.get((usage.provider, usage.model))
        if shelf is None:
            return Unpriced(f"{usage.provider} {usage.model} is not in the price book")
        found = bisect_right(shelf.starts, at)
        if not found:
            return Unpriced(f"{usage.provider} {usage.model} has no price before {utc_text(shelf.starts[0])}")
        return shelf.versions[found - 1].price(usage, at)

    def held(self, provider: str, model: str, at: datetime) -> tuple[PricedVersion, datetime, datetime] | None:
        """The version that holds for a model at a time, and the times [from, until) in which it does."""
        shelf = self._shelves.get((provider, model))
        found = bisect_right(shelf.starts, at) if shelf else 0
        if shelf is None or not found:
            return None
        until = shelf.starts[found] if found < len(shelf.starts) else LATEST
        return shelf.versions[found - 1], shelf.starts[found - 1], until

    def with_versions(self, added: Iterable[PriceVersion]) -> PriceBook:
        """The book of these versions' models as it will be once the versions are recorded."""
        added = list(added)
        models = {(version.provider, version.model) for version in added}
        shelves = [self._shelves[model] for model in models if model in self._shelves]
        return PriceBook([*(priced.version for shelf in shelves for priced in shelf.versions), *added])

    def in_force(self, provider: str, model: str, at: datetime) -> PriceVersion | None:
        """The version that holds for a model at a time."""
        held = self.held(provider, model, at)
        return None if held is None else held[0].version

    def providers(self) -> frozenset[str]:
        """The providers that have a price."""
        return self._providers
