"""What a check refuses."""

from typing import ClassVar

from services.chassis.problems import Problem

__all__ = ["PriceUnknown"]


class PriceUnknown(Problem):
    """An estimate that cannot be priced; nothing is guessed."""

    status = 422
    code = "PRICE_UNKNOWN"
    title = "Price unknown"
    texts: ClassVar = {"en": "This cannot be priced: {why}.", "de": "Das lässt sich nicht berechnen: {why}."}

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(why={"en": detail, "de": _GERMAN_REASONS[reason]})


# The texts by `Parked.reason`; the English detail names what is missing.
_GERMAN_REASONS = {
    "NO_PRICE": "für dieses Modell fehlt ein Preis",
    "NO_RATE": "für diese Währung fehlt ein Kurs",
}
