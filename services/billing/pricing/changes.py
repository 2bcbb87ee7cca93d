"""What an import would change in the price book."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

from services.billing.pricing.book import PriceBook
from services.billing.pricing.clock import Window
from services.billing.pricing.version import STANDARD, Factor, PriceList, PriceVersion

__all__ = ["Change", "Preview", "PriceChange", "diff", "new_prices"]

# A larger change, up or down, is more often a mistaken unit than a new price: it is marked for review.
_SUSPICIOUS_RATIO = 10
_FACTOR = "factor"


class PriceChange(NamedTuple):
    """One price or factor before and after, and where it holds; none is the side on which there is no such price."""

    price: str
    where: str
    before: Decimal | None
    after: Decimal | None
    tenfold: bool


class Change(NamedTuple):
    """A model whose prices differ from those in force at the new version's time."""

    before: PriceVersion
    after: PriceVersion

    def prices(self) -> list[PriceChange]:
        """Every price that differs. One that holds elsewhere than before is compared with all of its component."""
        before, after = dict(_prices(self.before)), dict(_prices(self.after))
        changes: list[PriceChange] = []
        for key in dict.fromkeys([*before, *after]):
            old, new = before.get(key), after.get(key)
            if old == new:
                continue
            if new is None:
                tenfold = False
            elif old is None:
                tenfold = _beyond(new, [price for (name, _), price in before.items() if name == key[0]])
            else:
                tenfold = _beyond(new, [old])
            changes.append(PriceChange(*key, old, new, tenfold))
        return changes


class Preview(NamedTuple):
    """New and changed versions are to be added; those of models already priced so are not."""

    new: tuple[PriceVersion, ...]
    changed: tuple[Change, ...]
    unchanged: tuple[PriceVersion, ...]

    def additions(self) -> tuple[PriceVersion, ...]:
        """The versions to record, in this order."""
        return (*self.new, *(change.after for change in self.changed))


def new_prices(version: PriceVersion) -> list[PriceChange]:
    """Every price of a model that had none before."""
    return [PriceChange(*key, None, price, tenfold=False) for key, price in dict(_prices(version)).items()]


def _prices(version: PriceVersion) -> Iterator[tuple[tuple[str, str], Decimal]]:
    """Every price and factor by its name and where it holds."""
    for entry in version.lists:
        for tier in entry.tiers:
            for component, price in entry.prices.items():
                yield (component, _where(entry, tier)), price
    for factor in version.factors:
        yield (_FACTOR, _where(factor, factor.tier or STANDARD)), factor.factor


def _where(part: PriceList | Factor, tier: str) -> str:
    """For people: the tier and all else that selects a price, empty for the plain standard price."""
    words = [tier] if tier != STANDARD else []
    if isinstance(part, PriceList):
        words += [f"above {part.above}"] if part.above is not None else []
        words += [f"up to {part.up_to}"] if part.up_to is not None else []
    words += [f"{name} {value}" for name, value in sorted(part.when.items())]
    words += [_hours(window) for window in part.clock]
    return ", ".join(words)


def _hours(window: Window) -> str:
    return f"{window.hours} {window.zone} on {''.join(map(str, window.weekdays))}"


def _beyond(price: Decimal, others: list[Decimal]) -> bool:
    """Whether a price is more than ten times the largest of others or less than a tenth of the smallest."""
    if not others:
        return False
    return price > _SUSPICIOUS_RATIO * max(others) or price * _SUSPICIOUS_RATIO < min(others)


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
