"""Crediting a mandate once, or taking a credit back: its pool, a member's budget, or all members' budgets in equal
parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.credits.repository import is_posted
from services.billing.ledger.accounts import enabled_member_accounts, member_account
from services.billing.ledger.domain import (
    LEDGER_NAMESPACE,
    GrantKind,
    Posting,
    ReferenceType,
    StoredContraAccount,
    TransactionType,
)
from services.billing.ledger.grants import NewGrant, insert_grants
from services.billing.ledger.keys import AccountKey, ensure_accounts
from services.billing.ledger.write_postings import write_postings
from services.billing.mandates.domain import share_equally
from services.billing.mandates.open_accounts import open_member_accounts
from services.billing.mandates.repository import LockedMandate

__all__ = ["GivenPart", "MandateCredit", "credit_id", "credit_mandate"]


def credit_id(mandate: LockedMandate, cause: str) -> UUID:
    """The id of the row that credits a mandate for a cause, or takes back; of the first one, where it is shared."""
    return uuid5(LEDGER_NAMESPACE, f"{mandate.id}/{cause}")


@dataclass(frozen=True, slots=True)
class MandateCredit:
    """A credit with its business identity: `cause` names what it is for, and is credited once per mandate. What takes
    one back is an ADJUSTMENT with an amount below zero."""

    user_id: str | None
    cause: str
    amount: int
    contra_account: StoredContraAccount
    reference_type: ReferenceType
    reference_id: str
    description: str
    occurred_at: datetime
    created_by_user_id: str | None = None
    # What was given rather than paid for: a grant, which expires where it has a time.
    grant: GrantKind | None = None
    transaction_type: TransactionType = "CREDIT"
    expires_at: datetime | None = None
    # Since when there is such a grant, where that is not now.
    granted_at: datetime | None = None

    def event_id(self, mandate: LockedMandate) -> UUID:
        """The id of its row; of the first one, where it is shared."""
        return credit_id(mandate, self.cause)


class GivenPart(NamedTuple):
    """A row of a credit that is a grant: its id, the grant, and micro-CHF."""

    event_id: UUID
    grant_no: int
    amount: int


async def credit_mandate(
    connection: AsyncConnection, mandate: LockedMandate, credit: MandateCredit, *, now: datetime
) -> list[GivenPart]:
    """Posts the credit in the caller's transaction; nothing when it was posted before. Gives the grants that it has
    made."""
    event_id = credit.event_id(mandate)
    if credit.amount == 0 or await is_posted(connection, mandate.no, event_id):
        return []
    targets = await _targets(connection, mandate, credit.user_id, now)
    # The first part has the identity of the whole, so that a repeat finds it even if the members have changed.
    event_ids = [event_id, *(_part(event_id, no) for no in targets[1:])]
    about = None if credit.user_id is None else await member_account(connection, mandate.no, credit.user_id)
    parts = [
        (no, each, amount)
        for no, each, amount in zip(targets, event_ids, share_equally(credit.amount, len(targets)), strict=True)
        if amount
    ]
    granted = await _grants(connection, mandate, credit, [(no, amount) for no, _, amount in parts], now)
    await write_postings(
        connection,
        [
            Posting.own(
                mandate_no=mandate.no,
                event_id=each,
                member_account_no=about or no,
                posted_account_no=no,
                transaction_type=credit.transaction_type,
                amount=amount,
                contra_account=credit.contra_account,
                reference_type=credit.reference_type,
                reference_id=credit.reference_id,
                description=credit.description,
                occurred_at=credit.occurred_at,
                created_by_user_id=credit.created_by_user_id,
                grants=grants,
            )
            for (no, each, amount), grants in zip(parts, granted, strict=True)
        ],
        calendars={mandate.no: mandate.calendar},
        now=now,
    )
    return [
        GivenPart(each, grant_no, amount)
        for (_, each, amount), grants in zip(parts, granted, strict=True)
        for grant_no, _ in grants
    ]


async def _grants(
    connection: AsyncConnection,
    mandate: LockedMandate,
    credit: MandateCredit,
    parts: Sequence[tuple[int, int]],
    now: datetime,
) -> list[tuple[tuple[int, int], ...]]:
    """For each part of the credit, as (account, micro-CHF), the grant that it fills, if it is one."""
    if credit.grant is None:
        return [()] * len(parts)
    given = [
        NewGrant(
            mandate_no=mandate.no,
            account_no=account_no,
            kind=credit.grant,
            amount=amount,
            expires_at=credit.expires_at,
            contra_account=credit.contra_account,
            reference_type=credit.reference_type,
            reference_id=credit.reference_id,
            description=credit.description,
        )
        for account_no, amount in parts
    ]
    numbers = await insert_grants(connection, given, now=credit.granted_at or now)
    return [((no, amount),) for no, (_, amount) in zip(numbers, parts, strict=True)]


async def _targets(
    connection: AsyncConnection, mandate: LockedMandate, user_id: str | None, now: datetime
) -> list[int]:
    """The accounts that the money is for, in id order, by the billing model in force."""
    pool = AccountKey(mandate.no, "MANDATE")
    pool_no = (await ensure_accounts(connection, [pool]))[pool]
    if mandate.billing_model != "PREPAY_USER":
        return [pool_no]
    if user_id is not None:
        await open_member_accounts(connection, [(mandate.no, user_id)], mandates={mandate.no: mandate}, now=now)
        own = await member_account(connection, mandate.no, user_id)
        if own is None:
            raise AssertionError("the account was opened a moment ago, in this transaction")
        return [own]
    # A mandate without members has nobody to share with; the money waits on its pool.
    return await enabled_member_accounts(connection, mandate.no, mandate.id) or [pool_no]


def _part(event_id: UUID, account_no: int) -> UUID:
    return uuid5(event_id, str(account_no))
