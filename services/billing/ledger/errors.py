"""What the ledger refuses."""

from collections.abc import Sequence

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = ["BalanceOutOfRange", "RowsRefused"]


class BalanceOutOfRange(Problem):
    """A balance would be further from zero than the ledger keeps."""

    status = 409
    code = "BALANCE_OUT_OF_RANGE"
    title = "Balance out of range"
    texts = both(
        "A balance would leave the range of the ledger.",
        "Ein Kontostand läge ausserhalb dessen, was das Hauptbuch führt.",
    )


class RowsRefused(ValueError):  # noqa: N818 - a signal to look which, not an answer to anybody.
    """PostgreSQL refuses a row for its content; its error is the cause of this one. The transaction is aborted, and
    `repository.faulty_rows` finds the rows at fault."""

    def __init__(self, rows: Sequence[bytes]) -> None:
        super().__init__(f"one of {len(rows)} rows")
        self.rows = rows
