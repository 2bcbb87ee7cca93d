"""Asking payments to recharge prepaid accounts whose balance is low: one charge at a time for an account, and no more
in a month than the mandate allows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.billing.v1 import RechargeRequested
from rappen_contracts.registry import RECHARGE_REQUESTED_V1
from rappen_contracts.types import AMOUNT_END, NonNegativeMoney
from services.billing.ledger.calendars import Calendar
from services.billing.ledger.low_balances import crossing_id
from services.billing.ledger.thresholds import warning_threshold
from services.billing.mandates.repository import LockedMandate, calendar_of, lock_mandate
from services.billing.money import from_micro, to_micro
from services.billing.recharges.domain import recharge_units
from services.billing.recharges.repository import (
    Due,
    NewRecharge,
    expire_recharges,
    insert_recharges,
    mandates_with_due_accounts,
    mandates_with_overdue_recharges,
    read_due_accounts,
    units_by_month,
)
from services.chassis.clock import Clock
from services.chassis.database import Database, begin
from services.chassis.outbox import OutboxRow, append_outbox, outbox_row

__all__ = ["RechargeLimits", "RequestRecharges"]

# Mandates that are looked at in one run.
BATCH = 500


@dataclass(frozen=True, slots=True)
class RechargeLimits:
    """How much one charge may be, for how long payments may try it, and for how long there is no other one after it was
    declined."""

    amount_max_chf: Decimal
    timeout: timedelta
    retry_after: timedelta


class RequestRecharges:
    """Looks for accounts that are to be recharged, and for recharges that payments has not answered in time.

    It goes by what is so now, not by the moment at which a balance became low: so nothing is missed by a crash, and a
    balance that stays low is recharged again as soon as that is allowed.
    """

    def __init__(self, database: Database, *, limits: RechargeLimits, clock: Clock) -> None:
        self._database = database
        self._limits = limits
        self._clock = clock

    async def __call__(self) -> int:
        """Settles some; returns how many recharges were requested or given up."""
        now, done = self._clock(), 0
        due = Due(now, self._limits.retry_after, to_micro(min(self._limits.amount_max_chf, AMOUNT_END - 1)))
        async with self._database.reading() as connection:
            numbers = set(await mandates_with_overdue_recharges(connection, now=now, limit=BATCH))
            numbers.update(await _mandates_within_maximum(connection, due))
            for mandate_no in sorted(numbers)[:BATCH]:
                # A transaction for each mandate, so that none is locked while another's lock is waited for.
                async with begin(connection):
                    mandate = await lock_mandate(connection, mandate_no)
                    done += await expire_recharges(connection, mandate_no, now=now)
                    done += await self._request(connection, mandate, due)
        return done

    async def _request(self, connection: AsyncConnection, mandate: LockedMandate, due: Due) -> int:
        """Requests what is due by now, under the lock of the mandate; returns how many."""
        accounts = await read_due_accounts(connection, mandate.no, due)
        if not accounts:
            return 0
        month = _month(mandate.calendar, due.now)
        used = await units_by_month(connection, [mandate.no], since=month, now=due.now)
        left = accounts[0]["recharge_max_per_month"] - used.get((mandate.no, month), 0)
        requested: list[tuple[sa.RowMapping, NewRecharge]] = []
        for row in accounts:
            if left < 1:
                break
            recharge = self._recharge(mandate, row, month, left, due)
            left -= recharge.units
            requested.append((row, recharge))
        if requested:
            await insert_recharges(connection, [recharge for _, recharge in requested])
            await append_outbox(connection, _publications(mandate, requested))
        return len(requested)

    def _recharge(self, mandate: LockedMandate, row: sa.RowMapping, month: date, left: int, due: Due) -> NewRecharge:
        amount, credited = row["recharge_amount"], row["balance_after_last_credit"]
        threshold = warning_threshold(row["billing_model"], row["warning_threshold_percent"], credited, None)
        units = recharge_units(
            balance=row["balance"],
            threshold=threshold,
            amount=amount,
            # A charge of several amounts counts as so many, so a month never costs more than its maximum of them.
            units_max=min(left, due.amount_max // amount),
        )
        return NewRecharge(
            mandate_no=mandate.no,
            id=uuid4(),
            account_no=row["no"],
            amount=units * amount,
            units=units,
            month=month,
            crossing=row["crossings"],
            requested_at=due.now,
            expires_at=due.now + self._limits.timeout,
        )


async def _mandates_within_maximum(connection: AsyncConnection, due: Due) -> list[int]:
    """The mandates with accounts that are to be recharged, less those whose month has had all that it may have."""
    rows = await mandates_with_due_accounts(connection, due)
    months = {
        row["no"]: _month(calendar_of(row["no"], row["time_zone"], row["past_time_zones"]), due.now) for row in rows
    }
    if not months:
        return []
    used = await units_by_month(connection, list(months), since=min(months.values()), now=due.now)
    return [row["no"] for row in rows if used.get((row["no"], months[row["no"]]), 0) < row["recharge_max_per_month"]]


def _month(calendar: Calendar, now: datetime) -> date:
    """The first day of a mandate's month."""
    return calendar.day(now).replace(day=1)


def _publications(mandate: LockedMandate, requested: Sequence[tuple[sa.RowMapping, NewRecharge]]) -> list[OutboxRow]:
    return [
        outbox_row(
            RECHARGE_REQUESTED_V1,
            RechargeRequested(
                mandate_id=mandate.id,
                recharge_id=recharge.id,
                account_id=str(recharge.account_no),
                user_id=row["user_id"],
                amount=NonNegativeMoney(amount=from_micro(recharge.amount), currency="CHF"),
                requested_at=recharge.requested_at,
                expires_at=recharge.expires_at,
                cause=str(crossing_id(mandate.no, recharge.account_no, recharge.crossing)),
            ),
            event_id=recharge.id,
            occurred_at=recharge.requested_at,
            key=mandate.id,
        )
        for row, recharge in requested
    ]
