"""Balances that have fallen to or under their warning threshold: noted with the movement, published once.

Whether an account is low is kept with it (`low`), because only the change from one to the other is news. It is looked
at again, under the lock of the mandate, in every transaction that moves the account or changes what the rule depends
on; usually nothing changes, and the one statement writes nothing.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.billing.v1 import BalanceLow
from rappen_contracts.registry import BALANCE_LOW_V1
from rappen_contracts.types import Money, NonNegativeBalance
from services.billing.ledger.domain import LEDGER_NAMESPACE, LockedAccount
from services.billing.ledger.thresholds import IS_LOW, THRESHOLD
from services.billing.money import from_micro
from services.billing.settings import WARNING_MAIL_INTERVAL_S
from services.chassis.database import driver_connection
from services.chassis.outbox import OutboxRow, append_outbox, outbox_row

__all__ = ["MAIL_INTERVAL_SETTING", "crossing_id", "note_low_balances", "note_low_balances_of_mandate"]

# The name under which a session of the database knows how long no second mail about an account is due, in seconds: this
# is below every use case that moves money, and none of them has to know it.
MAIL_INTERVAL_SETTING: Final = "billing.warning_mail_interval_s"
_MAIL_INTERVAL: Final = (
    f"make_interval(secs => coalesce(nullif(current_setting('{MAIL_INTERVAL_SETTING}', true), '')::float8,"
    f" {WARNING_MAIL_INTERVAL_S}))"
)

# `given` are the accounts to look at. What is returned are those that have become low.
_NOTE: Final = (
    " looked AS MATERIALIZED (SELECT a.mandate_no, a.no, NOT a.low AS low,"
    " NOT a.low AND m.notify_on_warning AND coalesce(a.last_warning_mail_at + {interval} <= $1, true) AS mail,"
    " m.id AS mandate_id, m.billing_model, m.notify_on_warning, {threshold} AS threshold"
    " FROM given JOIN accounts a ON a.mandate_no = given.mandate_no AND a.no = given.no"
    " JOIN mandates m ON m.no = given.mandate_no"
    " WHERE a.type IN ('MANDATE', 'USER') AND a.low <> {is_low}),"
    " noted AS (UPDATE accounts a SET low = looked.low, crossings = a.crossings + looked.low::int,"
    " last_warning_at = CASE WHEN looked.low THEN $1 ELSE a.last_warning_at END,"
    " last_warning_mail_at = CASE WHEN looked.mail THEN $1 ELSE a.last_warning_mail_at END"
    " FROM looked WHERE a.mandate_no = looked.mandate_no AND a.no = looked.no"
    " RETURNING a.mandate_no, a.no, a.type, a.user_id, a.balance, a.held, a.low, a.crossings, a.credit_limit,"
    " a.seq + a.held_changes AS version, looked.mail, looked.mandate_id, looked.billing_model,"
    " looked.notify_on_warning, looked.threshold)"
    " SELECT * FROM noted WHERE low ORDER BY mandate_no, no"
).format(interval=_MAIL_INTERVAL, threshold=THRESHOLD.format(a="a", m="m"), is_low=IS_LOW.format(a="a", m="m"))
_OF_ACCOUNTS: Final = f"WITH given AS (SELECT * FROM unnest($2::int[], $3::bigint[]) AS given (mandate_no, no)),{_NOTE}"
_OF_MANDATE: Final = f"WITH given AS (SELECT mandate_no, no FROM accounts WHERE mandate_no = $2),{_NOTE}"


def crossing_id(mandate_no: int, account_no: int, crossing: int) -> UUID:
    """The id of the event of an account's crossing by its number: published again, it is the same."""
    return uuid5(LEDGER_NAMESPACE, f"low/{mandate_no}/{account_no}/{crossing}")


async def note_low_balances(
    connection: AsyncConnection, moved: Iterable[LockedAccount], *, now: datetime, moved_again: bool = False
) -> None:
    """Looks at accounts that were moved in this transaction, once their balances are written: of most it is known
    without a statement that nothing changes. `moved_again` says that they may have moved since they were given."""
    accounts = [
        account
        for account in moved
        if account.rows and account.type in ("MANDATE", "USER") and (moved_again or account.crosses)
    ]
    if accounts:
        numbers = [account.mandate_no for account in accounts], [account.no for account in accounts]
        await _publish(connection, await driver_connection(connection).fetch(_OF_ACCOUNTS, now, *numbers), now)


async def note_low_balances_of_mandate(connection: AsyncConnection, mandate_no: int, *, now: datetime) -> None:
    """Looks at all accounts of a mandate, whose threshold, credit limit or billing model was changed."""
    await _publish(connection, await driver_connection(connection).fetch(_OF_MANDATE, now, mandate_no), now)


async def _publish(connection: AsyncConnection, low: Sequence[asyncpg.Record], now: datetime) -> None:
    await append_outbox(connection, [_balance_low(row, now) for row in low])


def _balance_low(row: asyncpg.Record, now: datetime) -> OutboxRow:
    postpaid = row["billing_model"] == "CREDIT_POSTPAY"
    data = BalanceLow(
        mandate_id=row["mandate_id"],
        account_id=str(row["no"]),
        account_type=row["type"],
        user_id=row["user_id"],
        billing_model=row["billing_model"],
        balance=_chf(row["balance"]),
        held=NonNegativeBalance(amount=from_micro(row["held"]), currency="CHF"),
        threshold=_chf(int(row["threshold"])),
        credit_limit=NonNegativeBalance(amount=from_micro(row["credit_limit"]), currency="CHF") if postpaid else None,
        notify=row["notify_on_warning"],
        mail=row["mail"],
        crossing=row["crossings"],
        version=row["version"],
    )
    event_id = crossing_id(row["mandate_no"], row["no"], row["crossings"])
    return outbox_row(BALANCE_LOW_V1, data, event_id=event_id, occurred_at=now, key=row["mandate_id"])


def _chf(micros: int) -> Money:
    return Money(amount=from_micro(micros), currency="CHF")
