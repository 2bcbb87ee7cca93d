"""Switching the billing model: the money goes where the new model looks for it, to the last micro-CHF."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.accounts import enabled_member_accounts, read_own_balances
from services.billing.ledger.domain import BillingModel, Posting
from services.billing.ledger.holds import move_holds
from services.billing.ledger.keys import AccountKey, ensure_accounts
from services.billing.ledger.low_balances import note_low_balances_of_mandate
from services.billing.ledger.write_postings import write_postings
from services.billing.mandates.audit_log import record_change
from services.billing.mandates.domain import share_equally
from services.billing.mandates.errors import AddressMissing, ModelUnchanged, NoMembers
from services.billing.mandates.open_accounts import give_opening_credit
from services.billing.mandates.queries import read_settings
from services.billing.mandates.repository import lock_mandate, write_settings
from services.chassis.caller import Caller

__all__ = ["switch_model"]


@dataclass(frozen=True, slots=True)
class ModelSwitch:
    """What a switch did: the sum moved (micro-CHF) and the number of members' accounts it moved to or from."""

    old_model: BillingModel
    new_model: BillingModel
    migrated: int
    user_count: int


async def switch_model(
    connection: AsyncConnection, mandate_no: int, model: BillingModel, *, caller: Caller, now: datetime
) -> ModelSwitch:
    """Moves the money, with what is held of it, and sets the model in the caller's transaction.

    The mandate is locked first, so nothing moves its money and no account is made in it meanwhile: usage is charged
    either before, by the old model, or after, by the new one.
    """
    locked = {mandate_no: await lock_mandate(connection, mandate_no)}
    pool = AccountKey(mandate_no, "MANDATE")
    pool_no = (await ensure_accounts(connection, [pool]))[pool]
    accounts = await read_own_balances(connection, mandate_no)
    settings = await read_settings(connection, mandate_no)
    old: BillingModel = settings["billing_model"]
    if old == model:
        raise ModelUnchanged
    if model == "CREDIT_POSTPAY" and settings["billing_address"] is None:
        raise AddressMissing
    switch = uuid4()
    members = [row for row in accounts if row["type"] == "USER"]
    pool_balance = next(row["balance"] for row in accounts if row["no"] == pool_no)
    if model == "PREPAY_USER":
        legs = await _share_out(connection, mandate_no, settings["id"], pool_no, pool_balance)
    elif old == "PREPAY_USER":
        legs = [(row["no"], pool_no, row["balance"]) for row in members if row["balance"]]
    else:
        legs = []
    await write_settings(connection, mandate_no, {"billing_model": model}, priced_anew=True)
    postings = _postings(
        mandate_no, switch, legs, description=f"Billing model {old} to {model}", caller=caller, now=now
    )
    calendars = {mandate_no: locked[mandate_no].calendar}
    await write_postings(connection, postings, calendars=calendars, now=now, more_follows=True)
    await move_holds(connection, mandate_no, pool_no=pool_no, to_members=model == "PREPAY_USER")
    if model == "PREPAY_USER":
        await give_opening_credit(connection, locked, now=now)
    # All accounts, because the new model may look at other ones.
    await note_low_balances_of_mandate(connection, mandate_no, now=now)
    touched = {no for leg in legs for no in leg[:2]} - {pool_no}
    result = ModelSwitch(old, model, sum(amount for *_, amount in legs), len(touched))
    await record_change(
        connection,
        mandate_no=mandate_no,
        actor=caller.user_id,
        action="model",
        before={"billingModel": old},
        after={"billingModel": model, "migratedMicroCHF": result.migrated},
        now=now,
    )
    return result


async def _share_out(
    connection: AsyncConnection, mandate_no: int, mandate_id: str, pool_no: int, balance: int
) -> list[tuple[int, int, int]]:
    """The pool in equal parts to the members' accounts, the remainder to the first in id order."""
    members = await enabled_member_accounts(connection, mandate_no, mandate_id)
    if not members:
        raise NoMembers
    parts = share_equally(balance, len(members))
    return [(pool_no, no, part) for no, part in zip(members, parts, strict=True) if part]


def _postings(
    mandate_no: int,
    switch: UUID,
    legs: Sequence[tuple[int, int, int]],
    *,
    description: str,
    caller: Caller,
    now: datetime,
) -> list[Posting]:
    """Each leg (from, to, amount) as its pair of adjustments through the mandate's TRANSFER contra account."""
    return [
        Posting.own(
            mandate_no=mandate_no,
            event_id=uuid5(switch, f"{number}/{side}"),
            member_account_no=account_no,
            posted_account_no=account_no,
            transaction_type="ADJUSTMENT",
            amount=amount,
            contra_account="TRANSFER",
            reference_type="SYSTEM",
            reference_id=str(switch),
            description=description,
            occurred_at=now,
            created_by_user_id=caller.user_id,
        )
        for number, (source, target, moved) in enumerate(legs)
        for side, account_no, amount in (("from", source, -moved), ("to", target, moved))
    ]
