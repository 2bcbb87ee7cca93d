"""Taking charges back: the postings that reverse them, and those that bring the money to where it is used by now, also
for what corrects a charge."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.cancellations import Cancellation, EventKey, read_charges, read_receivers, read_spent
from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import (
    LEDGER_NAMESPACE,
    AccountType,
    BillingModel,
    LockedGrant,
    Posting,
    Spent,
    charged_account_type,
    transaction_id,
)
from services.billing.ledger.grants import read_grants
from services.billing.ledger.spending import given_back
from services.billing.ledger.write_postings import prepare_postings, write_prepared
from services.billing.mandates.transfers import Leg, Transfer, shares, transfer_postings

__all__ = ["LockedTerms", "Moved", "is_used", "pass_on", "reversal_id", "reverse_charges"]

# Postings of one mandate that stand or fall together, each with the usage that it is about.
_Postings = list[tuple[EventKey, Posting]]


class LockedTerms(Protocol):
    """What a reversal depends on, under the lock of the mandate."""

    @property
    def billing_model(self) -> BillingModel:
        """Whose balance pays by now."""
        ...

    @property
    def calendar(self) -> Calendar:
        """The mandate's calendar."""
        ...


class Moved(NamedTuple):
    """By how much (micro-CHF) the account that usage was charged to moves again, what the charge was paid from, and the
    id of the row that does it."""

    mandate_no: int
    account_type: AccountType
    posted_account_no: int
    member_account_no: int
    amount: int
    spent: Spent
    cause: UUID


def reversal_id(mandate_no: int, event_id: UUID) -> UUID:
    """The id of the row that takes the charge of a usage event back: there is one, whoever asks for it."""
    return uuid5(LEDGER_NAMESPACE, f"reversal/{mandate_no}/{event_id}")


async def reverse_charges(
    connection: AsyncConnection,
    due: Mapping[EventKey, Cancellation],
    mandates: Mapping[int, LockedTerms],
    *,
    now: datetime,
) -> set[EventKey]:
    """Takes back what the cancelled usage was charged, corrections of its price included, of what was charged at all,
    in the caller's transaction, which has locked the mandates; gives the usage that is left out, because a balance
    would leave the ledger's range.

    What stands first in `due` is taken back first. The money goes to the account that was charged. Where the billing
    model does not use that account any more, it goes on as a switch would have moved it. The number of statements does
    not depend on the number of charges.
    """
    left_out: set[EventKey] = set()
    while True:
        charges = await read_charges(connection, [key for key in due if key not in left_out])
        if not charges:
            return left_out
        spent = await read_spent(connection, [_key(row) for row in charges])
        postings = [_reversal(row, spent[_key(row)], due[_key(row)], _model(mandates, row)) for row in charges]
        moved = {_key(row): _moved(row, spent[_key(row)]) for row in charges}
        postings += await pass_on(connection, list(moved.values()), mandates, what="Reversal", now=now)
        calendars = {no: mandates[no].calendar for no in {row["mandate_no"] for row in charges}}
        prepared = await prepare_postings(connection, postings, calendars=calendars, now=now)
        for _, error in prepared.faulty:
            raise error
        if not prepared.out_of_range:
            await write_prepared(connection, prepared)
            return left_out
        # Nothing is left out in part: the rest is prepared once more without it, and without all that a mandate passes
        # on where that is out of range.
        beyond = {posting.identity for posting in prepared.out_of_range}
        passed_on = {posting.mandate_no for posting in prepared.out_of_range if posting.contra_account != "REVENUE"}
        left_out |= {
            _key(row)
            for row in charges
            if (row["mandate_no"], reversal_id(*_key(row)).bytes) in beyond
            or (row["mandate_no"] in passed_on and not is_used(row["account_type"], _model(mandates, row)))
        }


def _key(row: sa.RowMapping) -> EventKey:
    return row["mandate_no"], row["event_id"]


def _reversal(row: sa.RowMapping, spent: Spent, cancellation: Cancellation, model: BillingModel) -> Posting:
    """Exactly the amount of the charge and its corrections, as posted, whatever remainders they left: on its day, in
    its dimension, to what it was paid from."""
    posting = Posting.own(
        mandate_no=row["mandate_no"],
        event_id=reversal_id(*_key(row)),
        member_account_no=row["member_account_no"],
        posted_account_no=row["posted_account_no"],
        transaction_type="ADJUSTMENT",
        amount=spent.total,
        contra_account="REVENUE",
        reference_type=row["reference_type"],
        reference_id=str(transaction_id(row["posted_account_no"], row["seq"])),
        occurred_at=row["occurred_at"],
        description=f"Reversal: {cancellation.reason}",
        created_by_user_id=cancellation.cancelled_by_user_id,
        passing=not is_used(row["account_type"], model),
    )
    of_usage = {name: row[name] for name in ("dimension_no", "workflow_id", "period_day")}
    return posting.changed(**of_usage, spent=spent)


def _model(mandates: Mapping[int, LockedTerms], row: sa.RowMapping) -> BillingModel:
    return mandates[row["mandate_no"]].billing_model


def _moved(row: sa.RowMapping, spent: Spent) -> Moved:
    accounts = row["account_type"], row["posted_account_no"], row["member_account_no"]
    return Moved(row["mandate_no"], *accounts, spent.total, spent, reversal_id(*_key(row)))


def is_used(kind: AccountType, model: BillingModel) -> bool:
    """Whether money belongs on an account of this type. The pool keeps it in every model but PREPAY_USER; what an
    internal account paid is nobody's."""
    return kind == "INTERNAL" or (kind == "USER") == (charged_account_type(model) == "USER")


async def pass_on(
    connection: AsyncConnection,
    moved: Sequence[Moved],
    mandates: Mapping[int, LockedTerms],
    *,
    what: str,
    now: datetime,
) -> list[Posting]:
    """What moves the money on from accounts that the billing model does not use any more, as a switch would have."""
    idle = [
        each
        for each in moved
        if each.amount and not is_used(each.account_type, mandates[each.mandate_no].billing_model)
    ]
    if not idle:
        return []
    by_mandate: dict[int, list[Moved]] = defaultdict(list)
    for each in idle:
        by_mandate[each.mandate_no].append(each)
    receivers = await read_receivers(connection, by_mandate.keys())
    named = {(each.mandate_no, no) for each in idle for no in each.spent.grants}
    grants = await read_grants(connection, (), named)
    postings = []
    for mandate_no, of_mandate in by_mandate.items():
        receiving = [each for each in receivers if each["mandate_no"] == mandate_no]
        legs = _legs(of_mandate, receiving, [grant for grant in grants if grant.mandate_no == mandate_no])
        description = f"{what} in billing model {mandates[mandate_no].billing_model}"
        transfer = Transfer(mandate_no, uuid5(of_mandate[0].cause, "transfer"), description, passing=True)
        postings += await transfer_postings(connection, transfer, legs, now=now)
    return postings


def _legs(moved: Sequence[Moved], receivers: Sequence[sa.RowMapping], grants: Sequence[LockedGrant]) -> list[Leg]:
    """Members' money goes to the pool; the pool's to the members in equal parts, and to those whose usage it was where
    there are none. What was spent of a grant stays part of one. What is taken comes before what is given, and apart
    from it: it spends the grants of who pays it."""
    pool_no = next(each["no"] for each in receivers if each["type"] == "MANDATE")
    members = [each["no"] for each in receivers if each["type"] == "USER"]
    returned: dict[tuple[int, int | None, bool], _Returned] = defaultdict(_Returned)
    for each in sorted(moved, key=lambda each: each.amount > 0):
        if each.account_type == "USER":
            between: tuple[int, int | None] = (each.posted_account_no, pool_no)
        else:
            between = pool_no, None if members else each.member_account_no
        returned[*between, each.amount > 0].add(each, grants)
    legs = []
    for (source, target, _), sums in returned.items():
        targets = members if target is None else [target]
        legs += shares(source, targets, sums.paid, list(sums.parts.values()))
    return legs


@dataclass(slots=True)
class _Returned:
    """What is given back to one account: paid credit and parts of grants, in micro-CHF."""

    paid: int = 0
    parts: dict[int, tuple[LockedGrant, int]] = field(default_factory=dict)

    def add(self, moved: Moved, grants: Sequence[LockedGrant]) -> None:
        """Adds a movement, by what its charge was paid from."""
        self.paid += moved.amount
        for grant, part in given_back(grants, moved.spent, moved.amount):
            _, before = self.parts.get(grant.no, (grant, 0))
            self.parts[grant.no] = grant, before + part
            self.paid -= part
