"""What the catalogue refuses."""

from services.chassis.problems import Problem
from services.chassis.validation import FieldFault, both

__all__ = ["UnknownPlan"]


class UnknownPlan(Problem):
    """The catalogue has no plan of that key."""

    status = 422
    code = "UNKNOWN_PLAN"
    title = "Unknown plan"
    texts = both("There is no such plan.", "Diesen Plan gibt es nicht.")

    def __init__(self, key: str) -> None:
        named = key[:64]
        texts = both(f'"{named}" is not in the catalogue', f'"{named}" ist nicht im Katalog')
        super().__init__(errors=[FieldFault("planKey", texts)])
