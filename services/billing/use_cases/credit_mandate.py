"""Crediting a mandate once: its pool, a member's budget, or all members' budgets in equal parts."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

import asyncpg

from services.billing.domain.ledger import LEDGER_NAMESPACE, CounterAccount, ReferenceType, Transaction
from services.billing.domain.sharing import share_equally
from services.billing.repository.accounts import enabled_member_accounts, member_account
from services.billing.repository.keys import AccountKey, ensure_accounts, ensure_mandates
from services.billing.repository.ledger import lock_accounts, recorded_digests
from services.billing.use_cases.open_accounts import open_member_accounts
from services.billing.use_cases.post_movements import Movement, post_movements

__all__ = ["MandateCredit", "credit_mandate"]


@dataclass(frozen=True, slots=True)
class MandateCredit:
    """A credit with its business identity: `cause` names what it is for, and is credited once per mandate."""

    mandate_id: str
    user_id: str | None
    cause: str
    amount: int
    counter: CounterAccount
    reference_type: ReferenceType
    reference_id: str
    description: str
    occurred_at: datetime
    created_by_user_id: str | None = None


async def credit_mandate(connection: asyncpg.Connection, credit: MandateCredit, *, now: datetime) -> list[Transaction]:
    """Posts the credit in the caller's transaction; nothing when it was posted before."""
    mandate_no = (await ensure_mandates(connection, [credit.mandate_id]))[credit.mandate_id]
    pool = (await ensure_accounts(connection, [AccountKey(mandate_no, "MANDATE")]))[AccountKey(mandate_no, "MANDATE")]
    # The pool's lock makes two tellings of one credit wait for each other, and holds the billing model still.
    await lock_accounts(connection, [(mandate_no, pool)])
    event_id = uuid5(LEDGER_NAMESPACE, f"{credit.mandate_id}/{credit.cause}")
    if credit.amount == 0 or await recorded_digests(connection, "transactions", [(mandate_no, event_id)]):
        return []
    targets = await _targets(connection, mandate_no, pool, credit.user_id, now)
    # The first part has the identity of the whole, so that a repeat finds it whoever the members are by then.
    event_ids = [event_id, *(_part(event_id, no) for no in targets[1:])]
    about = None if credit.user_id is None else await member_account(connection, mandate_no, credit.user_id)
    return await post_movements(
        connection,
        [
            Movement(
                mandate_no=mandate_no,
                event_id=each,
                account_no=no,
                about_no=about,
                transaction_type="CREDIT",
                amount=amount,
                counter=credit.counter,
                reference_type=credit.reference_type,
                reference_id=credit.reference_id,
                description=credit.description,
                occurred_at=credit.occurred_at,
                created_by_user_id=credit.created_by_user_id,
            )
            for no, each, amount in zip(targets, event_ids, share_equally(credit.amount, len(targets)), strict=True)
            if amount
        ],
        now=now,
    )


async def _targets(
    connection: asyncpg.Connection, mandate_no: int, pool: int, user_id: str | None, now: datetime
) -> list[int]:
    """The accounts that the money is for, in id order, by the billing model in force."""
    mandate = await connection.fetchrow("SELECT id, billing_model FROM mandates WHERE no = $1", mandate_no)
    if mandate["billing_model"] != "PREPAY_USER":
        return [pool]
    if user_id is not None:
        await open_member_accounts(connection, [(mandate_no, user_id)], now=now)
        own = await member_account(connection, mandate_no, user_id)
        if own is None:
            raise AssertionError("the account was opened a moment ago, in this transaction")
        return [own]
    # A mandate without members has nobody to share with; the money waits on its pool.
    return await enabled_member_accounts(connection, mandate_no, mandate["id"]) or [pool]


def _part(event_id: UUID, account_no: int) -> UUID:
    return uuid5(event_id, str(account_no))
