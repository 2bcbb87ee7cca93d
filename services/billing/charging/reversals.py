"""Taking charges back: the postings that reverse them, and those that bring the money to where it is used by now."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.cancellations import Cancellation, EventKey, read_charges, read_receivers
from services.billing.ledger.calendars import Calendar
from services.billing.ledger.domain import (
    LEDGER_NAMESPACE,
    AccountType,
    BillingModel,
    LockedGrant,
    Posting,
    charged_account_type,
    transaction_id,
)
from services.billing.ledger.grants import read_grants
from services.billing.ledger.spending import read_grants_text
from services.billing.ledger.write_postings import prepare_postings, write_prepared
from services.billing.mandates.transfers import Leg, Transfer, shares, transfer_postings

__all__ = ["LockedTerms", "reversal_id", "reverse_charges"]

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
    """Takes back what the cancelled usage was charged, of what was charged at all, in the caller's transaction, which
    has locked the mandates; gives the usage that is left out, because a balance would leave the ledger's range.

    What stands first in `due` is taken back first. The money goes to the account that was charged. Where the billing
    model does not use that account any more, it goes on as a switch would have moved it. The number of statements does
    not depend on the number of charges.
    """
    left_out: set[EventKey] = set()
    while True:
        charges = await read_charges(connection, [key for key in due if key not in left_out])
        if not charges:
            return left_out
        postings = [_reversal(row, due[_key(row)]) for row in charges]
        postings += await _passed_on(connection, charges, mandates, now)
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
            or (row["mandate_no"] in passed_on and not _is_used(row["account_type"], _model(mandates, row)))
        }


def _key(row: sa.RowMapping) -> EventKey:
    return row["mandate_no"], row["event_id"]


def _reversal(row: sa.RowMapping, cancellation: Cancellation) -> Posting:
    """Exactly the amount of the charge, as posted, whatever remainder it left; on its day and in its dimension."""
    posting = Posting.own(
        mandate_no=row["mandate_no"],
        event_id=reversal_id(*_key(row)),
        member_account_no=row["member_account_no"],
        posted_account_no=row["posted_account_no"],
        transaction_type="ADJUSTMENT",
        amount=row["amount"],
        contra_account="REVENUE",
        reference_type=row["reference_type"],
        reference_id=str(transaction_id(row["posted_account_no"], row["seq"])),
        occurred_at=row["occurred_at"],
        description=f"Reversal: {cancellation.reason}",
        created_by_user_id=cancellation.cancelled_by_user_id,
    )
    of_usage = {name: row[name] for name in ("dimension_no", "workflow_id", "period_day")}
    # What it was paid from gets it back.
    returned = [(no, -change) for no, change in read_grants_text(row["grants"])]
    return replace(posting, **of_usage, grants=returned)


def _is_used(kind: AccountType, model: BillingModel) -> bool:
    """Whether money belongs on an account of this type. The pool keeps it in every model but PREPAY_USER; what an
    internal account paid is nobody's."""
    return kind == "INTERNAL" or (kind == "USER") == (charged_account_type(model) == "USER")


async def _passed_on(
    connection: AsyncConnection, charges: Sequence[sa.RowMapping], mandates: Mapping[int, LockedTerms], now: datetime
) -> list[Posting]:
    """What moves the money on from accounts that the billing model does not use any more."""
    idle = [row for row in charges if row["amount"] and not _is_used(row["account_type"], _model(mandates, row))]
    if not idle:
        return []
    by_mandate: dict[int, list[sa.RowMapping]] = defaultdict(list)
    for row in idle:
        by_mandate[row["mandate_no"]].append(row)
    receivers = await read_receivers(connection, by_mandate.keys())
    named = {(row["mandate_no"], no) for row in idle for no, _ in read_grants_text(row["grants"])}
    grants = {(grant.mandate_no, grant.no): grant for grant in await read_grants(connection, (), named)}
    postings = []
    for mandate_no, rows in by_mandate.items():
        legs = _legs(rows, [each for each in receivers if each["mandate_no"] == mandate_no], grants)
        description = f"Reversal in billing model {mandates[mandate_no].billing_model}"
        transfer = Transfer(mandate_no, uuid5(reversal_id(*_key(rows[0])), "transfer"), description)
        postings += await transfer_postings(connection, transfer, legs, now=now)
    return postings


def _model(mandates: Mapping[int, LockedTerms], row: sa.RowMapping) -> BillingModel:
    return mandates[row["mandate_no"]].billing_model


def _legs(
    rows: Sequence[sa.RowMapping],
    receivers: Sequence[sa.RowMapping],
    grants: Mapping[tuple[int, int], LockedGrant],
) -> list[Leg]:
    """Members' money goes to the pool; the pool's to the members in equal parts, and to those whose usage it was where
    there are none. What was spent of a grant stays part of one."""
    pool_no = next(each["no"] for each in receivers if each["type"] == "MANDATE")
    members = [each["no"] for each in receivers if each["type"] == "USER"]
    moved: dict[tuple[int, int | None], _Returned] = defaultdict(_Returned)
    for row in rows:
        if row["account_type"] == "USER":
            between: tuple[int, int | None] = (row["posted_account_no"], pool_no)
        else:
            between = pool_no, None if members else row["member_account_no"]
        moved[between].add(row, grants)
    legs = []
    for (source, target), returned in moved.items():
        targets = members if target is None else [target]
        legs += shares(source, targets, returned.paid, list(returned.of_grants()))
    return legs


@dataclass(slots=True)
class _Returned:
    """What reversals give back to one account: paid credit and parts of grants, in micro-CHF."""

    paid: int = 0
    parts: dict[int, tuple[LockedGrant, int]] = field(default_factory=dict)

    def add(self, row: sa.RowMapping, grants: Mapping[tuple[int, int], LockedGrant]) -> None:
        """Adds what a charge was paid from."""
        self.paid += row["amount"]
        for no, change in read_grants_text(row["grants"]):
            _, before = self.parts.get(no, (None, 0))
            self.parts[no] = grants[row["mandate_no"], no], before - change
            self.paid += change

    def of_grants(self) -> Iterator[tuple[LockedGrant, int]]:
        """The parts of grants of which there is something."""
        return (part for part in self.parts.values() if part[1])
