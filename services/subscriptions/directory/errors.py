"""What is not in the directory."""

from typing import ClassVar

from services.chassis.problems import Problem

__all__ = ["MandateUnknown"]


class MandateUnknown(Problem):
    """The directory knows no such mandate; only a system administrator gets this answer."""

    status = 404
    code = "MANDATE_UNKNOWN"
    title = "Unknown mandate"
    texts: ClassVar = {"en": "There is no such mandate.", "de": "Diesen Mandanten gibt es nicht."}
