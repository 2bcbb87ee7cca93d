"""Correcting what usage was charged: never an edit, but a posting of how much more or less it costs by now."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.types import since_epoch
from services.billing.charging.cancellations import EventKey, read_cancellations, read_spent
from services.billing.charging.price_corrections import (
    PriceCorrection,
    insert_price_corrections,
    read_marks,
    read_standing,
)
from services.billing.charging.reversals import Moved, is_used, pass_on
from services.billing.ledger.domain import (
    AccountType,
    BillingModel,
    Posting,
    ReferenceType,
    Spent,
    own_id,
    transaction_id_text,
)
from services.billing.ledger.repository import read_accounts
from services.billing.ledger.write_postings import PreparedPostings, prepare_postings, write_prepared
from services.billing.mandates.repository import LockedMandate
from services.billing.money import Exact, exact, exact_difference, post
from services.billing.pricing.derivation import Derivation, corrected_derivation
from services.billing.pricing.price_again import PricedAgain

__all__ = ["Charge", "LeftOut", "PriceToCorrect", "correct_prices", "correction_id"]


_NOTHING = Spent(0, {})
_NOT_MEASURED = (None,) * 6


class Charge(NamedTuple):
    """A charge of usage, as far as a correction of its price repeats it."""

    mandate_no: int
    event_id: UUID
    member_account_no: int
    posted_account_no: int
    account_type: AccountType
    seq: int
    reference_type: ReferenceType
    occurred_at: datetime
    period_day: date
    dimension_no: int
    workflow_id: str | None
    provider: str | None
    model: str | None

    @property
    def key(self) -> EventKey:
        """The usage event."""
        return self.mandate_no, self.event_id


class PriceToCorrect(NamedTuple):
    """A charge, what its row keeps, the exact price at which it stands, and the one that it should have; and with that
    what the row of its correction has beside its posting."""

    charge: Charge
    kept: Derivation
    standing: Exact
    wanted: PricedAgain

    def measured(self) -> Sequence[int | None]:
        """Nothing: what was used is counted with the charge."""
        return _NOT_MEASURED

    def explain(self, remainder_before: str, remainder_after: str) -> bytes:
        """How the amount came about, as JSON."""
        return corrected_derivation(self.kept, self.wanted.source, remainder_before, remainder_after)


class LeftOut(NamedTuple):
    """Charges that were left as they are: because they were cancelled or corrected meanwhile, or a balance would leave
    the ledger's range."""

    meanwhile: set[EventKey]
    beyond_range: set[EventKey]


class _Difference(NamedTuple):
    """How much more a charge costs, or less where it is negative, and what it was paid from in that case; the number
    that its correction gets, and the id of its row."""

    key: EventKey
    due: PriceToCorrect
    by: Exact
    spent: Spent
    number: int
    id: bytes


def correction_id(mandate_no: int, event_id: UUID, number: int) -> bytes:
    """The id of the row that corrects a charge, as bytes: each has one first correction, one second, and so on."""
    return own_id(f"correction/{mandate_no}/{event_id}/{number}")


async def correct_prices(
    connection: AsyncConnection,
    due: Sequence[PriceToCorrect],
    mandates: Mapping[int, LockedMandate],
    *,
    rerating_id: UUID,
    now: datetime,
) -> LeftOut:
    """Corrects charges in the caller's transaction, which has locked their mandates.

    What a charge stands at is read under that lock: what was corrected or cancelled meanwhile is left as it is, so
    whoever comes second with the same price changes nothing. Each difference of exact prices is rounded with the
    remainder of the account that was charged, as a charge is. Where the billing model does not use that account any
    more, the money moves as that of a reversal does. The number of statements does not depend on that of charges.
    """
    differences, meanwhile = await _differences(connection, due, list(mandates))
    calendars = {no: mandate.calendar for no, mandate in mandates.items()}
    beyond: set[EventKey] = set()
    while True:
        kept = [each for each in differences if each.key not in beyond] if beyond else differences
        if not kept:
            return LeftOut(meanwhile, beyond)
        postings = [_posting(each, mandates[each.key[0]].billing_model) for each in kept]
        idle = await _round_idle(connection, kept, mandates)
        postings += await pass_on(connection, idle, mandates, what="Re-rating", now=now)
        prepared = await prepare_postings(connection, postings, calendars=calendars, now=now)
        for _, error in prepared.faulty:
            raise error
        if not prepared.out_of_range:
            await write_prepared(connection, prepared)
            await insert_price_corrections(connection, [_row(each) for each in kept], rerating_id)
            return LeftOut(meanwhile, beyond)
        beyond |= _beyond_range(prepared, kept, mandates)


async def _differences(
    connection: AsyncConnection, due: Sequence[PriceToCorrect], mandate_nos: Sequence[int]
) -> tuple[list[_Difference], set[EventKey]]:
    """What is to be posted, and the charges that have no difference any more."""
    keys = [each.charge.key for each in due]
    marks = await read_marks(connection, mandate_nos)
    cancelled = await read_cancellations(connection, [key for key in keys if key[0] in marks.cancellations])
    standing = await read_standing(connection, [key for key in keys if key[0] in marks.corrections])
    found = []
    meanwhile = set()
    for key, each in zip(keys, due, strict=True):
        known = standing.get(key)
        by = exact_difference(each.wanted.price, each.standing if known is None else exact(known.price))
        if by and key not in cancelled:
            found.append((key, each, by, 1 if known is None else known.number + 1))
        else:
            meanwhile.add(key)
    # Only what is given back asks where it came from.
    spent = await read_spent(connection, [key for key, _, by, _ in found if by < 0])
    differences = [
        _Difference(key, each, by, spent.get(key, _NOTHING), number, correction_id(*key, number))
        for key, each, by, number in found
    ]
    return differences, meanwhile


async def _round_idle(
    connection: AsyncConnection, differences: Sequence[_Difference], mandates: Mapping[int, LockedMandate]
) -> list[Moved]:
    """How corrections move accounts that the billing model does not use any more: the same rounding, one after the
    other, that their postings are about to make."""
    idle = [each for each in differences if _is_idle(each, mandates)]
    if not idle:
        return []
    accounts = await read_accounts(connection, {(each.key[0], each.due.charge.posted_account_no) for each in idle})
    remainders = {no: account.rounding_remainder for no, account in accounts.items()}
    moved = []
    for each in idle:
        charge = each.due.charge
        accounts_of = charge.account_type, charge.posted_account_no, charge.member_account_no
        amount, remainders[charge.posted_account_no] = post(each.by, remainders[charge.posted_account_no])
        moved.append(Moved(charge.mandate_no, *accounts_of, -amount, each.spent, UUID(bytes=each.id)))
    return moved


def _is_idle(difference: _Difference, mandates: Mapping[int, LockedMandate]) -> bool:
    return not is_used(difference.due.charge.account_type, mandates[difference.key[0]].billing_model)


def _posting(difference: _Difference, model: BillingModel) -> Posting:
    """On the day and in the dimension of the charge, so that statistics have its new price."""
    charge = difference.due.charge
    # By position as far as that goes, because this is done for each charge.
    return Posting(
        charge.mandate_no,
        difference.id,
        charge.member_account_no,
        charge.posted_account_no,
        "ADJUSTMENT",
        None,
        "REVENUE",
        charge.reference_type,
        since_epoch(charge.occurred_at),
        "Re-rating" if charge.provider is None else f"Re-rating: {charge.provider}",
        None,
        charge.dimension_no,
        charge.workflow_id,
        transaction_id_text(charge.posted_account_no, charge.seq),
        None,
        difference.by,
        difference.due,
        charge.period_day,
        (),
        difference.spent,
        not is_used(charge.account_type, model),
    )


def _row(difference: _Difference) -> PriceCorrection:
    return PriceCorrection(*difference.key, difference.number, difference.id, difference.due.wanted.price)


def _beyond_range(
    prepared: PreparedPostings, differences: Sequence[_Difference], mandates: Mapping[int, LockedMandate]
) -> set[EventKey]:
    """Charges whose correction no balance can hold; of a mandate all on accounts that are not used, where what passes
    on cannot."""
    beyond = {posting.identity for posting in prepared.out_of_range}
    passed_on = {posting.mandate_no for posting in prepared.out_of_range if posting.contra_account != "REVENUE"}
    return {
        each.key
        for each in differences
        if (each.key[0], each.id) in beyond or (each.key[0] in passed_on and _is_idle(each, mandates))
    }
