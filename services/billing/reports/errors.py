"""Refusals about single transactions."""

from typing import ClassVar

from services.chassis.problems import Problem

__all__ = ["TransactionUnknown"]


class TransactionUnknown(Problem):
    """The id names no row of the ledger, or none that the caller may see."""

    status = 404
    code = "TRANSACTION_UNKNOWN"
    title = "Unknown transaction"
    texts: ClassVar = {"en": "There is no such transaction.", "de": "Diese Transaktion gibt es nicht."}
