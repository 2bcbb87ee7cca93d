"""Refusals about transactions and lists of them."""

from typing import ClassVar

from services.chassis.problems import Problem

__all__ = ["TooManyExports", "TooManyValues", "TransactionUnknown"]


class TransactionUnknown(Problem):
    """The id names no row of the ledger, or none that the caller may see."""

    status = 404
    code = "TRANSACTION_UNKNOWN"
    title = "Unknown transaction"
    texts: ClassVar = {"en": "There is no such transaction.", "de": "Diese Transaktion gibt es nicht."}


class TooManyValues(Problem):
    """A column has more distinct values than an answer can have."""

    status = 400
    code = "TOO_MANY_VALUES"
    title = "Too many values"
    texts: ClassVar = {
        "en": "{column} has more than {most} distinct values. Narrow the list by filters on other columns.",
        "de": "{column} hat mehr als {most} verschiedene Werte. Bitte mit Filtern anderer Spalten eingrenzen.",
    }


class TooManyExports(Problem):
    """As many exports as this process runs at once are running."""

    status = 503
    code = "TOO_MANY_EXPORTS"
    title = "Too many exports"
    texts: ClassVar = {
        "en": "Other exports are running. Please try again in a moment.",
        "de": "Es laufen schon andere Exporte. Bitte gleich noch einmal versuchen.",
    }
