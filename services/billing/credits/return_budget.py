"""The budget of a period whose payment went back: taken as far as it is unspent, and given again where the payment came
back after all. A payment of a subscription is no balance of its own, so no more than its budget goes."""

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.payment.v1 import PaymentRefunded, PaymentSucceeded
from services.billing.credits.credit_mandate import MandateCredit, credit_id, credit_mandate
from services.billing.credits.repository import (
    BudgetGrant,
    budget_cause,
    mark_budget,
    mark_payment,
    mark_refund,
    open_budget_grants,
    read_budget,
    read_payment_mark,
    read_refund,
    refunds_of,
    taken_budget,
)
from services.billing.ledger.domain import Posting
from services.billing.ledger.write_postings import write_postings
from services.billing.mandates.repository import LockedMandate

__all__ = ["give_budget_again", "take_budget"]


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
    what became of the event, as `refund_payment` does."""
    subscription_id, period_start, paid = refunded.subscription_id, refunded.period_start, refunded.paid_amount
    if subscription_id is None or period_start is None or paid is None or paid.amount <= 0:
        return "noted"
    event_id = credit_id(mandate, f"refund/{refunded.refund_id}")
    known = await read_refund(connection, mandate.no, event_id)
    if known is not None:
        return "repeated" if known.digest == digest else "conflict"
    parts: list[tuple[BudgetGrant, int]] = []
    came_back = await read_payment_mark(connection, mandate.no, _given_again(mandate, refunded.refund_id))
    budget = await read_budget(connection, mandate.no, subscription_id, period_start)
    whole = refunded.amount.amount >= paid.amount
    if came_back is not None:
        # It was told of first that the payment came back.
        pass
    elif budget is None and whole:
        # It is told of on another topic, and is not given any more.
        await mark_budget(connection, mandate.no, subscription_id, period_start, amount=0, now=now)
    elif budget:
        first_row = credit_id(mandate, budget_cause(subscription_id, period_start))
        earlier = await refunds_of(connection, mandate.no, refunded.reference)
        again = [_given_again(mandate, refund_id) for refund_id in earlier]
        grants = await open_budget_grants(connection, mandate.no, first_row, again, now=now)
        part = 1 if whole else Fraction(refunded.amount.amount) / Fraction(paid.amount)
        parts = _parts(grants, int(budget * part))
    await write_postings(
        connection,
        [
            Posting.own(
                mandate_no=mandate.no,
                # The first part has the identity of the whole.
                event_id=uuid5(event_id, str(grant.no)) if place else event_id,
                member_account_no=grant.account_no,
                posted_account_no=grant.account_no,
                transaction_type="ADJUSTMENT",
                amount=-part,
                contra_account="SUBSCRIPTION_GRANT",
                reference_type="PAYMENT",
                reference_id=refunded.refund_id,
                description=description,
                occurred_at=refunded.refunded_at,
                grants=((grant.no, -part),),
            )
            for place, (grant, part) in enumerate(parts)
        ],
        calendars={mandate.no: mandate.calendar},
        now=now,
    )
    await mark_refund(
        connection,
        mandate.no,
        event_id,
        refund_id=refunded.refund_id,
        reference=refunded.reference,
        amount=sum(part for _, part in parts),
        digest=digest,
        now=now,
    )
    return "refunded"


async def give_budget_again(
    connection: AsyncConnection, mandate: LockedMandate, paid: PaymentSucceeded, *, digest: bytes, now: datetime
) -> str:
    """Gives what was taken for a refund or dispute again, which `reference` names, until the time that it had; says
    what became of the event, as `credit_payment` does. What has expired meanwhile is gone."""
    event_id = _given_again(mandate, paid.reference)
    known = await read_payment_mark(connection, mandate.no, event_id)
    if known is not None:
        return "repeated" if known["digest"] == digest else "conflict"
    taken_by = credit_id(mandate, f"refund/{paid.reference}")
    refund = await read_refund(connection, mandate.no, taken_by)
    budget = None if refund is None or not refund.amount else await taken_budget(connection, mandate.no, taken_by)
    if refund is not None and budget is not None and not budget.is_over(now):
        credit = MandateCredit(
            user_id=None,
            cause=f"payment/{paid.reference}",
            amount=refund.amount,
            contra_account="SUBSCRIPTION_GRANT",
            reference_type="SUBSCRIPTION",
            reference_id=budget.reference_id,
            description=budget.description,
            occurred_at=now,
            grant="BUDGET",
            transaction_type="ADJUSTMENT",
            expires_at=budget.expires_at,
            granted_at=budget.granted_at,
        )
        await credit_mandate(connection, mandate, credit, now=now)
    # It is a budget again, and no payment that was credited.
    await mark_payment(connection, mandate.no, event_id, reference=paid.reference, amount=0, digest=digest, now=now)
    return "credited"


def _parts(grants: Sequence[BudgetGrant], amount: int) -> list[tuple[BudgetGrant, int]]:
    """What each grant gives of an amount, in proportion to what remains of it; all of that where it is less. How much
    a grant was is no measure: one that was moved, or given again, is a part of the budget that others had before."""
    remaining = sum(grant.remaining for grant in grants)
    amount, parts, before = min(amount, remaining), [], 0
    for grant in grants:
        until = before + grant.remaining
        part = amount * until // remaining - amount * before // remaining
        if part:
            parts.append((grant, part))
        before = until
    return parts


def _given_again(mandate: LockedMandate, refund_id: str) -> UUID:
    return credit_id(mandate, f"payment/{refund_id}")
