"""What of a budget goes back with a part of its payment, and what of that each of its grants bears. Pure.

Budgets, refunds and what comes back after all are told of on topics that have no order between them. So how much of a
budget is to be taken follows from all that was told, never from what came last, and so does the share of each grant.
"""

from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction
from heapq import heapify, heapreplace

from services.billing.credits.refunded_budgets import BudgetGrant, BudgetRefund

__all__ = ["apportion", "came_back", "given_parts", "stripe_id", "taken_parts", "to_take"]

# A grant, and micro-CHF.
Part = tuple[BudgetGrant, int]


def to_take(budget: int, refunds: Iterable[BudgetRefund]) -> int:
    """What is to be taken of a budget (micro-CHF) for these refunds: the part of the payment that they are together,
    at most all of it."""
    part = sum((Fraction(each.amount) / Fraction(each.paid_amount) for each in refunds), Fraction(0))
    return int(budget * min(part, Fraction(1)))


def stripe_id(refund_id: str) -> str:
    """Stripe's id of a refund or dispute, from the identity of one of its takings."""
    return refund_id.partition("/")[0]


def came_back(refund_id: str, told: Collection[str]) -> bool:
    """Whether this taking of a refund or dispute came back. A dispute that takes more than once is told of as `du_1`,
    `du_1/2` and so on; what comes back is all that it has taken by then, under the newest of them."""
    return any(stripe_id(each) == stripe_id(refund_id) and _number(each) >= _number(refund_id) for each in told)


def _number(refund_id: str) -> int:
    number = refund_id.partition("/")[2]
    return int(number) if number.isascii() and number.isdigit() else 1


def taken_parts(grants: Sequence[BudgetGrant], amount: int) -> list[Part]:
    """What each grant gives of an amount, of which no more is taken than remains of all."""
    amount = min(amount, sum(grant.remaining for grant in grants))
    shares = _shares(grants, sum(grant.taken for grant in grants) + amount)
    wanted = [max(share - grant.taken, 0) for grant, share in zip(grants, shares, strict=True)]
    return _parts(grants, amount, wanted)


def given_parts(grants: Sequence[BudgetGrant], amount: int) -> list[Part]:
    """What each grant gets again of an amount, which is no more than was taken of all."""
    shares = _shares(grants, sum(grant.taken for grant in grants) - amount)
    wanted = [max(grant.taken - share, 0) for grant, share in zip(grants, shares, strict=True)]
    return _parts(grants, amount, wanted)


def _shares(grants: Sequence[BudgetGrant], taken: int) -> list[int]:
    """What is taken of each grant when so much is taken of all: in proportion to what would remain of it if nothing
    were. How much a grant was is no measure: one that was moved is a part of the budget that others had before."""
    return apportion(taken, [grant.remaining + grant.taken for grant in grants])


def _parts(grants: Sequence[BudgetGrant], amount: int, wanted: Sequence[int]) -> list[Part]:
    # Where usage was paid in between, shares have changed, so that some would have to be corrected the other way.
    parts = wanted if sum(wanted) == amount else apportion(amount, wanted)
    return [(grant, part) for grant, part in zip(grants, parts, strict=True) if part]


def apportion(amount: int, weights: Sequence[int]) -> list[int]:
    """An amount in whole parts in proportion to weights, none larger than its weight where the amount is no more than
    all of them. A larger amount makes no part smaller (D'Hondt), so what was taken in two steps is what is taken in
    one."""
    total = sum(weights)
    if total <= 0:
        return [0] * len(weights)
    parts = [amount * weight // total for weight in weights]
    # The next unit goes where the weight is largest beside the part with it; the first of those that are equal.
    next_ = [
        (Fraction(-weight, part + 1), place) for place, (weight, part) in enumerate(zip(weights, parts, strict=True))
    ]
    heapify(next_)
    for _ in range(amount - sum(parts)):
        place = next_[0][1]
        parts[place] += 1
        heapreplace(next_, (Fraction(-weights[place], parts[place] + 1), place))
    return parts
