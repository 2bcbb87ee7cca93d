"""Refusals about corrections."""

from uuid import UUID

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = ["NoUsageCharge", "ReratingUnknown", "TransactionNamedError"]


class NoUsageCharge(Problem):
    """Only what usage was charged can be taken back; credits, switches and reversals cannot."""

    status = 409
    code = "NO_USAGE_CHARGE"
    title = "No usage charge"
    texts = both(
        "This transaction is no charge of usage, so it cannot be reversed.",
        "Diese Transaktion ist keine Belastung für Nutzung und kann deshalb nicht storniert werden.",
    )


class ReratingUnknown(Problem):
    """The id names no re-rating."""

    status = 404
    code = "RERATING_UNKNOWN"
    title = "Unknown re-rating"
    texts = both("There is no such re-rating.", "Diese Neubewertung gibt es nicht.")


class TransactionNamedError(Exception):
    """A transaction is named where a usage event is meant; `charged` is the event that it charged, None where it is no
    charge of usage."""

    def __init__(self, charged: UUID | None) -> None:
        super().__init__(charged)
        self.charged = charged
