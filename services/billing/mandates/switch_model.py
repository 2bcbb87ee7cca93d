"""Switching the billing model: the money goes where the new model looks for it, to the last micro-CHF."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.accounts import enabled_member_accounts, own_accounts
from services.billing.ledger.domain import BillingModel, LockedAccount, LockedGrant
from services.billing.ledger.holds import move_holds
from services.billing.ledger.keys import AccountKey, ensure_accounts
from services.billing.ledger.low_balances import note_low_balances_of_mandate
from services.billing.ledger.write_postings import write_postings
from services.billing.mandates.audit_log import record_change
from services.billing.mandates.errors import AddressMissing, ModelUnchanged, NoMembers
from services.billing.mandates.open_accounts import opening_credits
from services.billing.mandates.queries import read_settings
from services.billing.mandates.repository import LockedMandate, lock_mandate, write_settings
from services.billing.mandates.transfers import Leg, Transfer, shares, transfer_postings
from services.chassis.caller import Caller

__all__ = ["InvoicedSpans", "switch_model"]


class InvoicedSpans(Protocol):
    """Who has to know when a mandate is in CREDIT_POSTPAY, because invoices ask for what is used in it."""

    async def begin(self, connection: AsyncConnection, mandate: LockedMandate, *, now: datetime) -> None:
        """The mandate is in CREDIT_POSTPAY from here on."""
        ...

    async def end(self, connection: AsyncConnection, mandate: LockedMandate, *, now: datetime) -> None:
        """It leaves CREDIT_POSTPAY, and nothing has been moved yet."""
        ...


@dataclass(frozen=True, slots=True)
class ModelSwitch:
    """What a switch did: the sum moved (micro-CHF) and the number of members' accounts it moved to or from."""

    old_model: BillingModel
    new_model: BillingModel
    migrated: int
    user_count: int


async def switch_model(
    connection: AsyncConnection,
    mandate_no: int,
    model: BillingModel,
    *,
    spans: InvoicedSpans,
    caller: Caller,
    now: datetime,
) -> ModelSwitch:
    """Moves the money, with what is held of it, and sets the model in the caller's transaction.

    The mandate is locked first, so nothing moves its money and no account is made in it meanwhile: usage is charged
    either before, by the old model, or after, by the new one.
    """
    locked = {mandate_no: await lock_mandate(connection, mandate_no)}
    calendars = {mandate_no: locked[mandate_no].calendar}
    pool_key = AccountKey(mandate_no, "MANDATE")
    pool_no = (await ensure_accounts(connection, [pool_key]))[pool_key]
    settings = await read_settings(connection, mandate_no)
    old: BillingModel = settings["billing_model"]
    if old == model:
        raise ModelUnchanged
    if model == "CREDIT_POSTPAY" and settings["billing_address"] is None:
        raise AddressMissing
    # Where money may be; members' accounts have some in PREPAY_USER alone.
    numbers = await own_accounts(connection, mandate_no) if old == "PREPAY_USER" else [pool_no]
    own = [(mandate_no, no) for no in numbers]
    # What has expired is not moved.
    accounts = await write_postings(connection, (), calendars=calendars, now=now, touched=own, more_follows=True)
    if old == "CREDIT_POSTPAY":
        await spans.end(connection, locked[mandate_no], now=now)
    if model == "PREPAY_USER":
        legs = await _share_out(connection, mandate_no, settings["id"], accounts[pool_no])
    elif old == "PREPAY_USER":
        legs = [_all_of(accounts[no], pool_no) for no in sorted(accounts) if accounts[no].type == "USER"]
    else:
        legs = []
    await write_settings(connection, mandate_no, {"billing_model": model}, priced_anew=True)
    transfer = Transfer(mandate_no, uuid4(), f"Billing model {old} to {model}", caller.user_id)
    postings = await transfer_postings(connection, transfer, legs, now=now)
    members = {posting.posted_account_no for posting in postings} - {pool_no}
    for posting in postings:
        # What moves to or from a member's own budget is that member's row; the audit log has who switched.
        if posting.posted_account_no != pool_no:
            posting.created_by_user_id = None
    if model == "PREPAY_USER":
        postings += await opening_credits(connection, locked, now=now)
    await write_postings(connection, postings, calendars=calendars, now=now, more_follows=True)
    if model == "CREDIT_POSTPAY":
        await spans.begin(connection, locked[mandate_no], now=now)
    await move_holds(connection, mandate_no, pool_no=pool_no, to_members=model == "PREPAY_USER")
    # All accounts, because the new model may look at other ones.
    await note_low_balances_of_mandate(connection, mandate_no, now=now)
    result = ModelSwitch(old, model, sum(leg.amount for leg in legs), len(members))
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


async def _share_out(connection: AsyncConnection, mandate_no: int, mandate_id: str, pool: LockedAccount) -> list[Leg]:
    """The pool in equal parts to the members' accounts, each grant on its own."""
    members = await enabled_member_accounts(connection, mandate_no, mandate_id)
    if not members:
        raise NoMembers
    return shares(pool.no, members, pool.balance - pool.granted, _open_grants(pool))


def _all_of(account: LockedAccount, target: int) -> Leg:
    return Leg(account.no, target, account.balance, _open_grants(account))


def _open_grants(account: LockedAccount) -> list[tuple[LockedGrant, int]]:
    return [(grant, grant.remaining) for grant in account.grants if grant.remaining]
