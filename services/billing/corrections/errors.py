"""Refusals about corrections."""

from typing import ClassVar

from services.chassis.problems import Problem

__all__ = ["NoUsageCharge"]


class NoUsageCharge(Problem):
    """Only what usage was charged can be taken back; credits, switches and reversals cannot."""

    status = 409
    code = "NO_USAGE_CHARGE"
    title = "No usage charge"
    texts: ClassVar = {
        "en": "This transaction is no charge of usage, so it cannot be reversed.",
        "de": "Diese Transaktion ist keine Belastung für Nutzung und kann deshalb nicht storniert werden.",
    }
