"""Holds in a few lines: what is reserved, until when, and what became of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tests.support.model_grants import GrantsModel, Place

__all__ = ["Hold", "HoldsModel"]


@dataclass
class Hold:
    """What the model knows of a hold; `usage` is what settled it: the event and its cost."""

    mandate: int
    user: str
    amount: int
    expires_at: datetime
    state: str = "OPEN"
    usage: tuple[UUID, int] | None = None

    def state_at(self, now: datetime) -> str:
        """Its state at a time: when it is over, nothing is reserved any more, whether or not that was noted."""
        return "EXPIRED" if self.state == "OPEN" and self.expires_at <= now else self.state


class HoldsModel(dict[UUID, Hold]):
    """The holds of mandates with grants, by their ids."""

    def __init__(self, money: GrantsModel) -> None:
        super().__init__()
        self._money = money

    def place(self, mandate: int, user: str) -> Place:
        """Where a hold of a member is: in UNLIMITED on the pool too, whose balance nobody spends."""
        return mandate, user if self._money.models[mandate] == "PREPAY_USER" else "pool"

    def held(self, place: Place, *, due: bool = False) -> int:
        """What is held there, with what is over but was not given back yet, or without."""
        now = self._money.now
        return sum(
            hold.amount
            for hold in self.values()
            if (hold.state if due else hold.state_at(now)) == "OPEN" and self.place(hold.mandate, hold.user) == place
        )

    def left(self, mandate: int, user: str) -> int:
        """The balance less what is held, and less what is over of grants."""
        place = self.place(mandate, user)
        return self._money.purses[place].balance - self._money.due(place) - self.held(place)

    def is_refused(self, mandate: int, user: str, amount: int) -> bool:
        """Whether the money does not suffice; without a credit limit it does, and so it does without any limit."""
        prepaid = self._money.models[mandate] in ("PREPAY_MANDATE", "PREPAY_USER")
        left = self.left(mandate, user)
        return prepaid and (left <= 0 or left < amount)

    def settle(self, uses: Iterable[tuple[UUID | None, int, UUID]]) -> int:
        """New usage, as (the hold that it names, mandate, event): the first that names an open one settles it."""
        count = 0
        for named, mandate, event_id in uses:
            hold = None if named is None else self.get(named)
            if hold is not None and hold.mandate == mandate and hold.state_at(self._money.now) == "OPEN":
                hold.state, hold.usage = "CAPTURED", (event_id, 0)
                count += 1
        return count

    def release(self) -> int:
        """What is over is given back; gives how many."""
        due = [hold for hold in self.values() if hold.state != hold.state_at(self._money.now)]
        for hold in due:
            hold.state = "EXPIRED"
        return len(due)
