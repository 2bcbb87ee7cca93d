"""What refunds and disputes of a payment take from its credit, and what comes back: pure, by each one's status now, so
neither order nor repetition matters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from services.payments.stripe.objects import MoneyBack

__all__ = ["Movement", "Refund", "RefundState", "movements", "refund_id_of", "told_id"]

Outcome = Literal["refund", "dispute_lost", "dispute_won"]


class RefundState(StrEnum):
    """What a refund or dispute has done to the credit."""

    TAKEN = "TAKEN"
    # A dispute that was won, or a refund that failed, before it was taken.
    NOT_TAKEN = "NOT_TAKEN"
    # One that was taken, and failed or was won after all.
    GIVEN_BACK = "GIVEN_BACK"


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund or dispute that was told of; `amount` is what it took in all, `taken_count` how many times it took,
    `version` the number of the newest look at it."""

    refund_id: str
    kind: str
    amount: Decimal
    state: RefundState
    taken_count: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class Movement:
    """Something to be told of now: `amount` moves, `total` is what is taken then, or was."""

    back: MoneyBack
    state: RefundState
    amount: Decimal
    total: Decimal
    taken_count: int

    @property
    def outcome(self) -> Outcome:
        """In the word of payment.refunded."""
        if self.state is RefundState.NOT_TAKEN:
            return "dispute_won"
        return "refund" if self.back.kind == "REFUND" else "dispute_lost"

    @property
    def told_id(self) -> str:
        """The identity under which it is told of."""
        return told_id(self.back.id, self.taken_count)


def told_id(refund_id: str, taken_count: int) -> str:
    """The identity of one taking: Stripe's id, from the second on with its number, because an identity takes once."""
    return refund_id if taken_count <= 1 else f"{refund_id}/{taken_count}"


def refund_id_of(told: str) -> str:
    """Stripe's id of a refund or dispute from the identity of one of its takings."""
    return told.partition("/")[0]


# What is not here is under way: a refund that is pending or waits for an action, a dispute that is not decided.
_TAKES = frozenset((("REFUND", "succeeded"), ("DISPUTE", "lost")))
_TAKES_NOT = frozenset((("REFUND", "failed"), ("REFUND", "canceled"), ("DISPUTE", "won")))


def movements(paid: Decimal, known: Mapping[str, Refund], now: Sequence[MoneyBack]) -> Iterable[Movement]:
    """What is new of them, oldest first: what comes back before what is taken. Together they never take more than was
    paid: of two that both want the same money, or where a bank takes more than was paid, the later one gets what is
    left, and the rest once the other one comes back. One that was given back takes again when it is lost after all.

    A refund that failed before it was known moves nothing, and is known from then on: what was seen of it earlier, and
    comes later, is known to be old. What the system before this one has taken is known as taken."""
    before_us = (each for each in now if each.taken_before)
    known = {**{each.id: Refund(each.id, each.kind, each.amount, RefundState.TAKEN, 1) for each in before_us}, **known}
    taken = sum((each.amount for each in known.values() if each.state is RefundState.TAKEN), Decimal(0))
    for back in now:
        before = known.get(back.id)
        if before is not None and before.state is RefundState.TAKEN and (back.kind, back.status) in _TAKES_NOT:
            taken -= before.amount
            yield Movement(back, RefundState.GIVEN_BACK, before.amount, before.amount, before.taken_count)
    for back in now:
        before = known.get(back.id) or Refund(back.id, back.kind, Decimal(0), RefundState.NOT_TAKEN)
        has = before.amount if before.state is RefundState.TAKEN else Decimal(0)
        if (back.kind, back.status) in _TAKES:
            more = min(back.amount - has, paid - taken)
            if more > 0:
                taken += more
                yield Movement(back, RefundState.TAKEN, more, has + more, before.taken_count + 1)
            elif before.state is not RefundState.TAKEN:
                yield Movement(back, RefundState.TAKEN, Decimal(0), Decimal(0), before.taken_count)
        elif back.id not in known and (back.kind, back.status) in _TAKES_NOT:
            won = min(back.amount, paid) if back.kind == "DISPUTE" else Decimal(0)
            yield Movement(back, RefundState.NOT_TAKEN, won, Decimal(0), 0)
