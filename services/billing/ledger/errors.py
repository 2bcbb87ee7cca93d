"""What the ledger refuses."""

from typing import ClassVar

from services.chassis.problems import Problem

__all__ = ["BalanceOutOfRange"]


class BalanceOutOfRange(Problem):
    """A balance would be further from zero than the ledger keeps."""

    status = 409
    code = "BALANCE_OUT_OF_RANGE"
    title = "Balance out of range"
    texts: ClassVar = {
        "en": "A balance would leave the range of the ledger.",
        "de": "Ein Kontostand läge ausserhalb dessen, was das Hauptbuch führt.",
    }
