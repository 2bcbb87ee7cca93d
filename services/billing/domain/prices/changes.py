"""What an import would change in the price book."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from services.billing.domain.prices.book import PriceBook
from services.billing.domain.prices.version import PriceVersion

__all__ = ["Change", "Preview", "diff"]


class Change(NamedTuple):
    """A model whose prices differ from those in force at the new version's time."""

    before: PriceVersion
    after: PriceVersion


class Preview(NamedTuple):
    """New and changed versions are to be added; those of models already priced so are not."""

    new: tuple[PriceVersion, ...]
    changed: tuple[Change, ...]
    unchanged: tuple[PriceVersion, ...]

    def additions(self) -> tuple[PriceVersion, ...]:
        """The versions to record, in this order."""
        return (*self.new, *(change.after for change in self.changed))


def diff(book: PriceBook, incoming: Iterable[PriceVersion]) -> Preview:
    """Compares each version with the one in force at its own `valid_from`, those before it in the file included.

    Nothing is taken away: a model that has left the list keeps its prices, and a changed price is another version.
    """
    new: list[PriceVersion] = []
    changed: list[Change] = []
    unchanged: list[PriceVersion] = []
    accepted: dict[tuple[str, str], PriceVersion] = {}
    for version in sorted(incoming, key=lambda each: each.valid_from):
        model = (version.provider, version.model)
        before = book.in_force(*model, version.valid_from)
        earlier = accepted.get(model)
        if earlier is not None and (before is None or earlier.valid_from >= before.valid_from):
            before = earlier
        if before is not None and before.same_prices(version):
            unchanged.append(version)
            continue
        accepted[model] = version
        if before is None:
            new.append(version)
        else:
            changed.append(Change(before, version))
    return Preview(tuple(new), tuple(changed), tuple(unchanged))
