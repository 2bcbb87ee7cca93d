"""Moving money between the accounts of a mandate, with the grants that are part of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.domain import LockedGrant, Posting
from services.billing.ledger.grants import NewGrant, insert_grants
from services.billing.mandates.domain import share_equally

__all__ = ["Leg", "Transfer", "shares", "transfer_postings"]


class Leg(NamedTuple):
    """So many micro-CHF from one account to another, and how much of it belongs to which grants."""

    source: int
    target: int
    amount: int
    grants: Sequence[tuple[LockedGrant, int]] = ()


@dataclass(frozen=True, slots=True)
class Transfer:
    """What the rows of a transfer have in common."""

    mandate_no: int
    id: UUID
    description: str
    created_by_user_id: str | None = None
    # Its money only passes through the accounts that it comes from.
    passing: bool = False


def shares(source: int, targets: Sequence[int], paid: int, grants: Sequence[tuple[LockedGrant, int]]) -> list[Leg]:
    """Paid credit and each grant in equal parts to the targets, of each the remainder to the first ones."""
    paid_parts = share_equally(paid, len(targets))
    of_grants = [(grant, share_equally(amount, len(targets))) for grant, amount in grants]
    legs = []
    for number, target in enumerate(targets):
        parts = [(grant, amounts[number]) for grant, amounts in of_grants if amounts[number]]
        legs.append(Leg(source, target, paid_parts[number] + sum(part for _, part in parts), parts))
    return legs


async def transfer_postings(
    connection: AsyncConnection, transfer: Transfer, legs: Sequence[Leg], *, now: datetime
) -> list[Posting]:
    """Each leg as its pair of adjustments through the mandate's TRANSFER contra account. A grant keeps its terms: on
    the account that receives of it, it goes on as a new one; parts with the same terms become one there."""
    moved = [leg for leg in legs if leg.amount or leg.grants]
    numbers = await _successors(connection, moved, now)
    postings = []
    for number, leg in enumerate(moved):
        taken = [(grant.no, -part) for grant, part in leg.grants]
        given: dict[int, int] = {}
        for grant, part in leg.grants:
            no = numbers[_terms(leg.target, grant)]
            given[no] = given.get(no, 0) + part
        postings += [
            Posting.own(
                mandate_no=transfer.mandate_no,
                event_id=uuid5(transfer.id, f"{number}/{side}"),
                member_account_no=account_no,
                posted_account_no=account_no,
                transaction_type="ADJUSTMENT",
                amount=amount,
                contra_account="TRANSFER",
                reference_type="SYSTEM",
                reference_id=str(transfer.id),
                description=transfer.description,
                occurred_at=now,
                created_by_user_id=transfer.created_by_user_id,
                grants=grants,
                passing=transfer.passing and side == "from",
            )
            for side, account_no, amount, grants in (
                ("from", leg.source, -leg.amount, taken),
                ("to", leg.target, leg.amount, list(given.items())),
            )
        ]
    return postings


# An account, and all that makes a grant on it the same as another.
_Terms = tuple[object, ...]


def _terms(target: int, grant: LockedGrant) -> _Terms:
    reference = grant.reference_type, grant.reference_id, grant.description
    return target, grant.kind, grant.expires_at, grant.contra_account, *reference


async def _successors(connection: AsyncConnection, legs: Sequence[Leg], now: datetime) -> dict[_Terms, int]:
    """The numbers of the grants as which those of the legs go on."""
    made: dict[_Terms, NewGrant] = {}
    for leg in legs:
        for grant, part in leg.grants:
            terms = _terms(leg.target, grant)
            before = made[terms].amount if terms in made else 0
            made[terms] = NewGrant(
                mandate_no=grant.mandate_no,
                account_no=leg.target,
                kind=grant.kind,
                amount=before + part,
                expires_at=grant.expires_at,
                contra_account=grant.contra_account,
                reference_type=grant.reference_type,
                reference_id=grant.reference_id,
                description=grant.description,
            )
    return dict(zip(made, await insert_grants(connection, list(made.values()), now=now), strict=True))
