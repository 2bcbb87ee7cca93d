"""In which order a balance is spent: how a posting changes the grants of the account that it moves. Pure.

An account has paid credit or it has no grants, before and after every posting (see `ledger/grants.py`).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import uuid5

from services.billing.ledger.domain import LEDGER_NAMESPACE, LockedAccount, LockedGrant, Posting, Spent

__all__ = ["GrantChange", "apply_changes", "expiry", "given_back", "grant_changes", "grants_text", "read_grants_text"]

# A grant, and by how much its remainder changes, in micro-CHF.
GrantChange = tuple[LockedGrant, int]


def grant_changes(account: LockedAccount, posting: Posting, by: int, now: datetime) -> list[GrantChange]:
    """How a posting that moves the balance by so many micro-CHF changes the account's grants; nothing is changed yet.

    First what the posting says itself, or gives back of a charge. Then what it spends, soonest expiry first; money that
    goes back to the payment provider is paid credit as far as there is any. Then whatever grants there are beyond the
    balance, which cover a debt. What is given back to a grant whose time is over does neither: it expires. What is
    given back of a charge is a change of its own, also where it covers a debt at once, so that nothing gives it back
    once more. Raises ValueError for a grant of which less remains than the posting takes.
    """
    if by < 0 and not posting.grants and posting.contra_account == "REVENUE" and not posting.passing:
        return _spending(account.grants, -by, now)
    changes: dict[int, int] = dict(posting.grants)
    returned: list[GrantChange] = []
    if posting.spent is not None:
        returned = given_back(account.grants, posting.spent, by)
        changes |= {grant.no: part for grant, part in returned}
    over = sum(grant.remaining + changes.get(grant.no, 0) for grant in account.grants if grant.is_over(now))
    granted = account.granted + sum(changes.values()) - over
    beyond = 0 if posting.passing else _beyond(posting, by, granted, account.balance + by - over)
    for grant in account.grants:
        if beyond <= 0:
            break
        if grant.is_over(now):
            continue
        taken = min(beyond, grant.remaining + changes.get(grant.no, 0))
        if taken > 0:
            changes[grant.no] = changes.get(grant.no, 0) - taken
            beyond -= taken
    of_account = {grant.no: grant for grant in account.grants}
    found = [(of_account[no], change) for no, change in changes.items() if change]
    if beyond > 0 or any(not 0 <= grant.remaining + change <= grant.amount for grant, change in found):
        raise ValueError("a posting takes more of a grant than there is, or gives back more than was taken")
    if not returned:
        return found
    for grant, part in returned:
        changes[grant.no] -= part
    return returned + [(of_account[no], change) for no, change in changes.items() if change]


def _spending(grants: Sequence[LockedGrant], amount: int, now: datetime) -> list[GrantChange]:
    """What a charge spends. No debt is left to cover: there is none where there are grants."""
    changes = []
    for grant in grants:
        remaining = grant.remaining
        # As `is_over` says, without a call for each charge.
        if remaining and (grant.expires_at is None or grant.expires_at > now):
            if remaining >= amount:
                changes.append((grant, -amount))
                break
            changes.append((grant, -remaining))
            amount -= remaining
    return changes


def _beyond(posting: Posting, by: int, granted: int, balance: int) -> int:
    """How much of the grants the posting spends, or covers a debt with, given the balance after it."""
    beyond = granted - max(balance, 0)
    if by < 0 and not posting.grants and posting.contra_account != "PAYMENT_PROVIDER":
        beyond = max(beyond, min(granted, -by))
    return beyond


def given_back(grants: Sequence[LockedGrant], spent: Spent, amount: int) -> list[GrantChange]:
    """What of an amount that is given back for a charge belongs to its grants, which are in the order in which they are
    spent: what was spent last comes back first, and that is paid credit. Never more than the amount: rows of releases
    before do not say what a correction gave back to a grant where that covered a debt at once."""
    left, parts = amount - max(spent.paid, 0), []
    for grant in reversed(grants):
        part = min(left, spent.grants.get(grant.no, 0))
        if part > 0:
            parts.append((grant, part))
            left -= part
    return parts


def apply_changes(account: LockedAccount, changes: Iterable[GrantChange]) -> None:
    """Makes the changes."""
    for grant, change in changes:
        grant.remaining += change
        grant.changed = True
        account.granted += change


def expiry(account: LockedAccount, grant: LockedGrant, now: datetime) -> Posting:
    """The posting by which what remains of a grant expires. A grant can expire again after a reversal gave something of
    it back, so the id has the number of the row."""
    return Posting.own(
        mandate_no=grant.mandate_no,
        event_id=uuid5(LEDGER_NAMESPACE, f"expiry/{grant.mandate_no}/{grant.no}/{account.no}/{account.seq}"),
        member_account_no=account.no,
        posted_account_no=account.no,
        transaction_type="ADJUSTMENT",
        amount=-grant.remaining,
        contra_account=grant.contra_account,
        reference_type=grant.reference_type,
        reference_id=grant.reference_id,
        description=f"Expired: {grant.description}",
        occurred_at=grant.expires_at or now,
        grants=((grant.no, -grant.remaining),),
    )


def grants_text(changes: Sequence[GrantChange]) -> bytes | None:
    """The changes as a row keeps them; None where there are none."""
    return b" ".join([b"%d:%d" % (grant.no, change) for grant, change in changes]) if changes else None


def read_grants_text(text: str | None) -> list[tuple[int, int]]:
    """The grants that a row changed, as (number, micro-CHF); one is named twice where it was given back what covered a
    debt at once."""
    pairs = [part.partition(":") for part in (text or "").split()]
    return [(int(no), int(change)) for no, _, change in pairs]
