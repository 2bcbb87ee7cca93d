"""The budget of a period whose payment went back: taken as far as it is unspent, and given again where the payment came
back after all. A payment of a subscription is no balance of its own, so no more than its budget goes.

What went back is kept, also while its budget is not told of; `take_told_refunds` takes it then. Each step looks at all
that was told of the period under the lock of its mandate, so the end is the same whatever the order.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.payment.v1 import PaymentRefunded, PaymentSucceeded
from services.billing.credits.budget_shares import came_back, given_parts, stripe_id, taken_parts, to_take
from services.billing.credits.credit_mandate import MandateCredit, credit_id, credit_mandate
from services.billing.credits.refunded_budgets import (
    BudgetGrant,
    BudgetMovement,
    BudgetRefund,
    Period,
    insert_budget_refund,
    insert_movements,
    read_budget_grants,
    read_budget_refund,
    read_budget_refunds,
    read_came_back,
    read_given_budget,
    read_period_of_refund,
    read_taken,
    read_unspent,
)
from services.billing.credits.repository import mark_payment, read_budget, read_payment_mark, read_refund
from services.billing.ledger.domain import Posting, charged_account_type
from services.billing.ledger.write_postings import write_postings
from services.billing.mandates.repository import LockedMandate

__all__ = ["give_budget_again", "take_budget", "take_told_refunds"]


async def take_budget(
    connection: AsyncConnection,
    mandate: LockedMandate,
    refunded: PaymentRefunded,
    *,
    digest: bytes,
    description: str,
    now: datetime,
) -> str:
    """Takes the part of the budget for which the payment that went back was made, in the caller's transaction; says
    what became of the event, as `refund_payment` does: also that it waits for the budget."""
    subscription_id, period_start, paid = refunded.subscription_id, refunded.period_start, refunded.paid_amount
    if subscription_id is None or period_start is None or paid is None or paid.amount <= 0:
        return "noted"
    # What went back under a release before is marked as money that did.
    known = await read_budget_refund(connection, mandate.no, refunded.refund_id) or await read_refund(
        connection, mandate.no, _taking_id(mandate, refunded.refund_id)
    )
    if known is not None:
        return "repeated" if known.digest == digest else "conflict"
    period = Period(mandate.no, subscription_id, period_start)
    refund = BudgetRefund(
        refunded.refund_id,
        refunded.reference,
        refunded.amount.amount,
        paid.amount,
        description,
        refunded.refunded_at,
        digest,
    )
    others = await _standing(connection, period)
    await insert_budget_refund(connection, period, refund, now=now)
    if await read_budget(connection, *period) is None:
        return "waiting"
    told = await read_came_back(connection, mandate.no, [stripe_id(refund.refund_id)])
    if not came_back(refund.refund_id, told):
        await _take(connection, mandate, period, refund, others, now=now)
    return "refunded"


async def take_told_refunds(
    connection: AsyncConnection, mandate: LockedMandate, period: Period, *, now: datetime
) -> None:
    """Takes, of a budget that was credited in the caller's transaction, what went back before it was told of."""
    standing = await _standing(connection, period)
    for place, refund in enumerate(standing):
        await _take(connection, mandate, period, refund, standing[:place], now=now)


async def give_budget_again(
    connection: AsyncConnection, mandate: LockedMandate, paid: PaymentSucceeded, *, digest: bytes, now: datetime
) -> str:
    """Gives again what is taken too much once the refund or dispute that `reference` names has come back, until the
    time that the budget has; says what became of the event, as `credit_payment` does. What has expired meanwhile is
    gone."""
    event_id = credit_id(mandate, f"payment/{paid.reference}")
    known = await read_payment_mark(connection, mandate.no, event_id)
    if known is not None:
        return "repeated" if known["digest"] == digest else "conflict"
    # It is a budget again, and no payment that was credited.
    await mark_payment(connection, mandate.no, event_id, reference=paid.reference, amount=0, digest=digest, now=now)
    period = await read_period_of_refund(connection, mandate.no, stripe_id(paid.reference))
    budget = None if period is None else await read_budget(connection, *period)
    if period is not None and budget is not None:
        excess = await read_taken(connection, period) - to_take(budget, await _standing(connection, period))
        if excess > 0:
            await _give(connection, mandate, period, excess, paid.reference, now=now)
    return "credited"


async def _standing(connection: AsyncConnection, period: Period) -> Sequence[BudgetRefund]:
    """What went back of the payment of a period and did not come back."""
    refunds = await read_budget_refunds(connection, period)
    if not refunds:
        return []
    ids = sorted({stripe_id(each.refund_id) for each in refunds})
    told = await read_came_back(connection, period.mandate_no, ids)
    return [each for each in refunds if not came_back(each.refund_id, told)]


async def _take(
    connection: AsyncConnection,
    mandate: LockedMandate,
    period: Period,
    refund: BudgetRefund,
    others: Sequence[BudgetRefund],
    *,
    now: datetime,
) -> None:
    """Takes by how much more goes back with this refund than with the others."""
    budget = await read_given_budget(connection, period)
    if budget is None or budget.is_over(now):
        return
    amount = to_take(budget.amount, [*others, refund]) - to_take(budget.amount, others)
    found = await read_budget_grants(connection, period, budget)
    parts = taken_parts(found, min(amount, await read_unspent(connection, period, budget, found)))
    event_id = _taking_id(mandate, refund.refund_id)
    moved = []
    for place, (grant, part) in enumerate(parts):
        # The first part has the identity of the whole.
        row_id = uuid5(event_id, str(grant.no)) if place else event_id
        moved.append((grant, BudgetMovement(row_id, refund.refund_id, grant.no, -part)))
    row = {
        "reference_type": "PAYMENT",
        "reference_id": refund.refund_id,
        "description": refund.description,
        "occurred_at": refund.refunded_at,
    }
    await _move(connection, mandate, period, moved, now=now, **row)


async def _give(
    connection: AsyncConnection, mandate: LockedMandate, period: Period, amount: int, reference: str, *, now: datetime
) -> None:
    """Gives an amount again: to the grants of which it was taken, and where the billing model does not use their
    accounts any more, as a budget is given."""
    budget = await read_given_budget(connection, period)
    if budget is None or budget.is_over(now):
        return
    event_id = credit_id(mandate, f"payment/{reference}")
    parts = given_parts(await read_budget_grants(connection, period, budget), amount)
    there = [(grant, part) for grant, part in parts if _is_used(grant, mandate)]
    row: dict[str, Any] = {
        "reference_type": "SUBSCRIPTION",
        "reference_id": str(period.subscription_id),
        "description": budget.description,
        "occurred_at": now,
    }
    moved = [
        (grant, BudgetMovement(uuid5(event_id, f"grant/{grant.no}"), reference, grant.no, part))
        for grant, part in there
    ]
    await _move(connection, mandate, period, moved, now=now, **row)
    elsewhere = MandateCredit(
        user_id=None,
        cause=f"payment/{reference}",
        amount=amount - sum(part for _, part in there),
        contra_account="SUBSCRIPTION_GRANT",
        grant="BUDGET",
        transaction_type="ADJUSTMENT",
        expires_at=budget.expires_at,
        granted_at=budget.granted_at,
        **row,
    )
    made = await credit_mandate(connection, mandate, elsewhere, now=now)
    given = [BudgetMovement(part.event_id, reference, part.grant_no, part.amount) for part in made]
    await insert_movements(connection, period, given)


async def _move(
    connection: AsyncConnection,
    mandate: LockedMandate,
    period: Period,
    moved: Sequence[tuple[BudgetGrant, BudgetMovement]],
    *,
    now: datetime,
    **row: Any,
) -> None:
    """Posts what is taken of grants, or given to them, and notes it; `row` is what the rows have in common."""
    postings = [
        Posting.own(
            mandate_no=mandate.no,
            event_id=movement.event_id,
            member_account_no=grant.account_no,
            posted_account_no=grant.account_no,
            transaction_type="ADJUSTMENT",
            amount=movement.amount,
            contra_account="SUBSCRIPTION_GRANT",
            grants=((grant.no, movement.amount),),
            **row,
        )
        for grant, movement in moved
    ]
    await write_postings(connection, postings, calendars={mandate.no: mandate.calendar}, now=now)
    await insert_movements(connection, period, [movement for _, movement in moved])


def _is_used(grant: BudgetGrant, mandate: LockedMandate) -> bool:
    """Whether the billing model looks at the account of a grant: at those of members in `PREPAY_USER`, else at the
    pool."""
    return (grant.account_type == "USER") == (charged_account_type(mandate.billing_model) == "USER")


def _taking_id(mandate: LockedMandate, refund_id: str) -> UUID:
    return credit_id(mandate, f"refund/{refund_id}")
