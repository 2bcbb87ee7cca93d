"""Refusals about invoices."""

from typing import ClassVar

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = ["InvoiceUnknown", "NoSeller"]


class InvoiceUnknown(Problem):
    """There is no such invoice, or none that the caller may see."""

    status = 404
    code = "INVOICE_UNKNOWN"
    title = "Unknown invoice"
    texts: ClassVar = both("There is no such invoice.", "Diese Rechnung gibt es nicht.")


class NoSeller(Problem):
    """The operator has not said who issues the invoices."""

    status = 409
    code = "NO_SELLER"
    title = "Invoices are not set up"
    texts: ClassVar = both(
        "An invoice is due, and this platform has no seller set up to issue it.",
        "Eine Rechnung ist fällig, und auf dieser Plattform ist nicht eingerichtet, wer sie ausstellt.",
    )
