"""Refusals of lists."""

from pydantic import ValidationError

from services.chassis.problems import Problem
from services.chassis.validation import Texts, both, faults_of, summary

__all__ = ["InvalidPagination", "ListTooCostly", "PaginationFault"]


class PaginationFault(Exception):  # noqa: N818 - it becomes a refusal; the field's word is fault.
    """What is wrong with the pagination, as a phrase in English and German."""

    def __init__(self, en: str, de: str) -> None:
        super().__init__(en)
        self.texts: Texts = both(en, de)

    @classmethod
    def of(cls, error: ValidationError) -> "PaginationFault":
        """The first fault of a validation."""
        texts = summary(faults_of(error, prefix="pagination")[:1])
        return cls(texts["en"], texts["de"])


class InvalidPagination(Problem):
    """The list's paging, sorting or filtering is malformed or names an unknown column."""

    status = 400
    code = "INVALID_PAGINATION"
    title = "Bad request"
    texts = both("The list cannot be read so: {fault}.", "So lässt sich die Liste nicht lesen: {fault}.")


class ListTooCostly(Problem):
    """Reading the list took longer than one list may occupy the database."""

    status = 503
    code = "LIST_TOO_COSTLY"
    title = "List too costly"
    texts = both(
        "This list takes too long to read. Narrow it by filters or a mandate, or try again later.",
        "Diese Liste zu lesen dauert zu lange. Bitte mit Filtern oder einem Mandanten eingrenzen oder später wieder "
        "versuchen.",
    )
