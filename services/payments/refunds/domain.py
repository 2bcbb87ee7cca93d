"""What refunds and disputes of a payment take from its credit, and what comes back: pure, by each one's status now, so
neither order nor repetition matters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from services.payments.stripe.objects import MoneyBack

__all__ = ["Movement", "Refund", "RefundState", "movements"]

Outcome = Literal["refund", "dispute_lost", "dispute_won"]


class RefundState(StrEnum):
    """What a refund or dispute has done to the credit."""

    TAKEN = "TAKEN"
    # A dispute that was won.
    NOT_TAKEN = "NOT_TAKEN"
    # One that was taken, and failed or was won after all.
    GIVEN_BACK = "GIVEN_BACK"


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund or dispute that was told of; `amount` is what it took."""

    refund_id: str
    kind: str
    amount: Decimal
    state: RefundState


@dataclass(frozen=True, slots=True)
class Movement:
    """Something to be told of now."""

    back: MoneyBack
    state: RefundState
    amount: Decimal

    @property
    def outcome(self) -> Outcome:
        """In the word of payment.refunded."""
        if self.state is RefundState.NOT_TAKEN:
            return "dispute_won"
        return "refund" if self.back.kind == "REFUND" else "dispute_lost"


# What is not here is under way: a refund that is pending or waits for an action, a dispute that is not decided.
_TAKES = frozenset((("REFUND", "succeeded"), ("DISPUTE", "lost")))
_TAKES_NOT = frozenset((("REFUND", "failed"), ("REFUND", "canceled"), ("DISPUTE", "won")))


def movements(paid: Decimal, known: Mapping[str, Refund], now: Sequence[MoneyBack]) -> Iterable[Movement]:
    """What is new of them, oldest first. Together they never take more than was paid: of two that both want the same
    money, or where a bank takes more than was paid, the later one gets what is left."""
    taken = sum((each.amount for each in known.values() if each.state is RefundState.TAKEN), Decimal(0))
    for back in now:
        before, word = known.get(back.id), (back.kind, back.status)
        if before is None and word in _TAKES:
            amount = min(back.amount, paid - taken)
            taken += amount
            yield Movement(back, RefundState.TAKEN, amount)
        elif before is None and word == ("DISPUTE", "won"):
            yield Movement(back, RefundState.NOT_TAKEN, min(back.amount, paid))
        elif before is not None and before.state is RefundState.TAKEN and word in _TAKES_NOT:
            taken -= before.amount
            yield Movement(back, RefundState.GIVEN_BACK, before.amount)
