"""The descriptions that a worker knows to be kept (`ledger/descriptions.py`)."""

from collections.abc import Iterable
from typing import Final

from services.billing.charging.usage_events import Usage
from services.billing.ledger.descriptions import Described

__all__ = ["DescriptionCache"]

# Bounds the memory of a worker: four bytes at most for each character, and for what each description takes beside,
# which is most where it is the only one of its dimension.
CHARACTERS_MAX: Final = 6_000_000
CHARACTERS_BESIDE: Final = 100


class DescriptionCache:
    """Descriptions that are kept, by the numbers of the dimensions."""

    def __init__(self) -> None:
        self._kept: dict[int, set[str]] = {}
        # Dimensions of which no more descriptions are kept.
        self._many: set[int] = set()
        # What it counts as taking, of at most `CHARACTERS_MAX`.
        self.characters = 0

    def unknown(self, usages: Iterable[Usage]) -> set[Described]:
        """The descriptions of usage that may have to be kept."""
        kept, many, none = self._kept, self._many, frozenset[str]()
        return {
            Described(usage.keys.mandate_no, number, text)
            for usage in usages
            if (text := usage.data.description or "") not in kept.get(number := usage.keys.dimension_no, none)
            and number not in many
        }

    def remember(self, committed: Iterable[Described]) -> None:
        """Remembers what is kept. When there is too much of it everything is forgotten; what is in use is read
        again."""
        for _, number, text in committed:
            if text is None:
                if number not in self._many:
                    self._many.add(number)
                    self.characters += CHARACTERS_BESIDE
            elif text not in (kept := self._kept.setdefault(number, set())):
                kept.add(text)
                self.characters += len(text) + CHARACTERS_BESIDE
        if self.characters > CHARACTERS_MAX:
            self._kept.clear()
            self._many.clear()
            self.characters = 0
