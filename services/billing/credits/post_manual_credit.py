"""Manual credits and deductions by the system administrator: recorded with who made them and why."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.credits.errors import NotAMember, UserRequired, ZeroCredit
from services.billing.credits.repository import posted_credit
from services.billing.ledger.domain import LEDGER_NAMESPACE, Posting, TransactionType
from services.billing.ledger.keys import AccountKey, ensure_accounts
from services.billing.ledger.write_postings import write_postings
from services.billing.mandates.audit_log import record_change
from services.billing.mandates.open_accounts import open_member_accounts
from services.billing.mandates.queries import is_member
from services.billing.mandates.repository import LockedMandate, lock_mandate
from services.billing.money import to_micro
from services.billing.reports.transactions import read_transaction
from services.chassis.caller import Caller
from services.chassis.problems import IdempotencyMismatch

__all__ = ["ManualCredit", "credited_account", "post_manual_credit"]


@dataclass(frozen=True, slots=True)
class ManualCredit:
    """A signed amount in CHF (negative deducts), for whom and why; with the same idempotency key a repeat is the same
    credit."""

    user_id: str | None
    amount: Decimal
    description: str
    idempotency_key: str | None


async def post_manual_credit(
    connection: AsyncConnection, mandate_no: int, credit: ManualCredit, *, caller: Caller, now: datetime
) -> dict[str, Any]:
    """Posts the credit in the caller's transaction and returns its row; a repeat returns the first row, whatever the
    billing model is by then."""
    if not credit.amount:
        raise ZeroCredit
    mandate = await lock_mandate(connection, mandate_no)
    event_id = _event_id(mandate_no, caller, credit.idempotency_key)
    known = await posted_credit(connection, mandate_no, event_id)
    micros = to_micro(credit.amount)
    transaction_type: TransactionType = "CREDIT" if micros > 0 else "DEBIT"
    if known is not None:
        given = (transaction_type, abs(micros), credit.description, credit.user_id)
        if tuple(known[name] for name in ("transaction_type", "amount", "description", "user_id")) != given:
            raise IdempotencyMismatch
        return await read_transaction(connection, mandate_no, known["posted_account_no"], known["seq"])
    account_no, member_account_no = await credited_account(connection, mandate, credit.user_id, now=now)
    posting = Posting.own(
        mandate_no=mandate_no,
        event_id=event_id,
        member_account_no=member_account_no or account_no,
        posted_account_no=account_no,
        transaction_type=transaction_type,
        amount=abs(micros),
        contra_account="ADMIN",
        reference_type="ADMIN",
        description=credit.description,
        occurred_at=now,
        created_by_user_id=caller.user_id,
    )
    posted = await write_postings(connection, [posting], calendars={mandate_no: mandate.calendar}, now=now)
    await record_change(
        connection,
        mandate_no=mandate_no,
        actor=caller.user_id,
        action="credit",
        before=None,
        after={"amount": credit.amount, "userId": credit.user_id, "description": credit.description},
        now=now,
    )
    return await read_transaction(connection, mandate_no, account_no, posted[account_no].seq)


async def credited_account(
    connection: AsyncConnection, mandate: LockedMandate, user_id: str | None, *, now: datetime
) -> tuple[int, int | None]:
    """The account whose balance a credit moves, and the member it is for: the pool, or a member's own budget."""
    own = mandate.billing_model == "PREPAY_USER"
    if own and user_id is None:
        raise UserRequired
    if user_id is not None and not await is_member(connection, mandate.id, user_id):
        raise NotAMember
    pool = AccountKey(mandate.no, "MANDATE")
    pool_no = (await ensure_accounts(connection, [pool]))[pool]
    if user_id is None:
        return pool_no, None
    await open_member_accounts(connection, [(mandate.no, user_id)], mandates={mandate.no: mandate}, now=now)
    member = AccountKey(mandate.no, "USER", user_id)
    member_no = (await ensure_accounts(connection, [member]))[member]
    return (member_no, None) if own else (pool_no, member_no)


def _event_id(mandate_no: int, caller: Caller, key: str | None) -> UUID:
    if key is None:
        return uuid4()
    return uuid5(LEDGER_NAMESPACE, f"admin/{mandate_no}/{caller.user_id}/{key}")
