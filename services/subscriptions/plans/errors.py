"""What the catalogue refuses."""

from typing import ClassVar

from services.chassis.problems import Problem
from services.chassis.validation import FieldFault

__all__ = ["UnknownPlan"]


class UnknownPlan(Problem):
    """The catalogue has no plan of that key."""

    status = 422
    code = "UNKNOWN_PLAN"
    title = "Unknown plan"
    texts: ClassVar = {"en": "There is no such plan.", "de": "Diesen Plan gibt es nicht."}

    def __init__(self, key: str) -> None:
        named = key[:64]
        texts = {"en": f'"{named}" is not in the catalogue', "de": f'"{named}" ist nicht im Katalog'}
        super().__init__(errors=[FieldFault("planKey", texts)])
