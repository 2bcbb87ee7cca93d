"""The storage of a subscription's periods: charged when the next one has begun and is paid, or when there is none."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.subscription.v1 import SubscriptionChanged
from services.billing.ledger.accounts import enabled_member_accounts
from services.billing.ledger.domain import LEDGER_NAMESPACE, AccountType, Posting, charged_account_type
from services.billing.ledger.keys import AccountKey, DimensionKey, ensure_accounts, ensure_dimensions
from services.billing.ledger.write_postings import write_postings
from services.billing.mandates.repository import LockedMandate
from services.billing.money import EXACT, exact, plain
from services.billing.storage.derivation import StorageTerms, storage_derivation
from services.billing.storage.domain import bytes_above, gigabytes, months_of, share_price, storage_price
from services.billing.storage.repository import (
    OpenPeriod,
    close_period,
    open_period,
    open_periods,
    read_peak,
    update_period,
)

__all__ = ["settle_storage_periods"]

_TICK = timedelta(microseconds=1)


async def settle_storage_periods(
    connection: AsyncConnection,
    mandate: LockedMandate,
    changed: SubscriptionChanged,
    *,
    ended_at: datetime | None,
    now: datetime,
) -> None:
    """Follows a change of a subscription, in the caller's transaction, which has locked the mandate.

    Where a period has begun and is paid for, it is opened, and those before are closed and charged; where the
    subscription has ended, as it is known by now whatever this change says, all are closed and charged, also one that
    is told only then. Each is so once, however often that is said: its identity is the subscription and its start. The
    caller looks which balances are low, once the new period's budget is there.
    """
    period = _period(changed)
    if period is not None:
        await update_period(connection, mandate.no, period)
    paid = changed.budget_due and period is not None
    if period is not None and paid:
        await open_period(connection, mandate.no, period, now=now)
    if not (paid or changed.to_state == "EXPIRED"):
        return
    for each in await open_periods(connection, mandate.no, changed.subscription_id):
        if ended_at is not None:
            await _close(connection, mandate, each, _end(each, ended_at), now)
        elif period is not None and each.period_start < period.period_start:
            await _close(connection, mandate, each, _end(each, period.period_start), now)


def _end(period: OpenPeriod, at: datetime) -> datetime:
    """When a period ends that is over at a time at the latest; one that never began has no length."""
    return max(period.period_start, min(period.period_end or at, at))


def _period(changed: SubscriptionChanged) -> OpenPeriod | None:
    if changed.period_start is None:
        return None
    plan = changed.plan
    return OpenPeriod(
        subscription_id=changed.subscription_id,
        period_start=changed.period_start,
        period_end=changed.period_end,
        version=changed.version,
        plan_key=plan.key,
        included_mb=plan.max_data_volume_mb,
        price_per_gb_month=None if plan.storage_price_per_gb_month is None else plan.storage_price_per_gb_month.amount,
    )


async def _close(
    connection: AsyncConnection, mandate: LockedMandate, period: OpenPeriod, end: datetime, now: datetime
) -> None:
    """Closes a period and charges its peak above what the plan includes."""
    peak = await read_peak(connection, mandate.no, start=period.period_start, end=end)
    closed = _ClosedPeriod(period, end, peak, months_of(period.period_start, end))
    await close_period(connection, mandate.no, period, end=end, peak=peak, months=closed.months, now=now)
    if closed.price:
        await _post(connection, mandate, closed, now)


@dataclass(frozen=True, slots=True)
class _ClosedPeriod:
    """What a period is charged by; the rows of the charge keep it, with how many accounts pay."""

    period: OpenPeriod
    end: datetime
    peak: int
    months: Decimal
    shared_by: int = 1

    @property
    def price(self) -> Decimal:
        """The exact price, in CHF."""
        above, unit_price = bytes_above(self.peak, self.period.included_mb), self.period.price_per_gb_month
        return storage_price(above, unit_price or Decimal(0), self.months)

    @property
    def description(self) -> str:
        """What lists of transactions show."""
        above = gigabytes(bytes_above(self.peak, self.period.included_mb))
        return f"Storage: {plain(above.normalize(EXACT))} GB above plan {self.period.plan_key}"

    def measured(self) -> tuple[None, None, None, None, None, None]:
        """Nothing is measured but bytes."""
        return None, None, None, None, None, None

    def explain(self, remainder_before: str, remainder_after: str) -> bytes:
        """The derivation, as JSON."""
        terms = StorageTerms(
            self.period.period_start,
            self.end,
            plain(self.months),
            self.peak,
            self.period.included_mb,
            plain(self.period.price_per_gb_month or 0),
            plain(self.price),
            self.shared_by,
        )
        return storage_derivation(terms, remainder_before, remainder_after)


async def _post(connection: AsyncConnection, mandate: LockedMandate, closed: _ClosedPeriod, now: datetime) -> None:
    """Charges whom the billing model has pay; in PREPAY_USER the enabled members in equal parts. It counts in the
    period that has ended, at its last moment."""
    subscription_id, start = closed.period.subscription_id, closed.period.period_start
    accounts = await _paying(connection, mandate)
    key = DimensionKey(mandate.no, None, None, None, None)
    dimension_no = (await ensure_dimensions(connection, [key]))[key]
    whole = uuid5(LEDGER_NAMESPACE, f"storage/{mandate.id}/{subscription_id}/{start.isoformat()}")
    posting = Posting.own(
        mandate_no=mandate.no,
        event_id=whole,
        member_account_no=accounts[0],
        posted_account_no=accounts[0],
        transaction_type="DEBIT",
        amount=0,
        contra_account="REVENUE",
        reference_type="STORAGE",
        reference_id=str(subscription_id),
        occurred_at=closed.end - _TICK,
        description=closed.description,
    )
    usage = replace(closed, shared_by=len(accounts))
    parts = zip(accounts, share_price(closed.price, len(accounts)), strict=True)
    postings = [
        posting.changed(
            event_id=(whole if no == accounts[0] else uuid5(whole, str(no))).bytes,
            member_account_no=no,
            posted_account_no=no,
            amount=None,
            price=exact(part),
            usage=usage,
            dimension_no=dimension_no,
        )
        for no, part in parts
        if part
    ]
    calendars = {mandate.no: mandate.calendar}
    await write_postings(connection, postings, calendars=calendars, now=now, more_follows=True)


async def _paying(connection: AsyncConnection, mandate: LockedMandate) -> list[int]:
    """The accounts that pay, in id order. The pool pays for a mandate without members."""
    kind: AccountType = charged_account_type(mandate.billing_model)
    if kind == "USER":
        members = await enabled_member_accounts(connection, mandate.no, mandate.id)
        if members:
            return members
        kind = "MANDATE"
    key = AccountKey(mandate.no, kind)
    return [(await ensure_accounts(connection, [key]))[key]]
