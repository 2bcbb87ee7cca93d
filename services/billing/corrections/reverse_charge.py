"""Taking a charge back on a system administrator's word, by its transaction or by its usage event: once, however often
and in whichever way it is asked for."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.cancel_usage import cancel_usage
from services.billing.charging.cancellations import Cancellation
from services.billing.charging.reversals import reversal_id
from services.billing.corrections.errors import NoUsageCharge, TransactionNamedError
from services.billing.corrections.queries import (
    UsageState,
    find_number,
    find_reversal,
    find_transaction,
    read_reason,
    read_state,
)
from services.billing.ledger.domain import transaction_place
from services.billing.ledger.errors import BalanceOutOfRange
from services.billing.mandates.audit_log import record_change
from services.billing.mandates.open_mandate import open_mandate
from services.billing.mandates.repository import lock_mandate
from services.billing.reports.errors import TransactionUnknown
from services.billing.reports.transactions import place_of, read_transaction
from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Contended, Database

__all__ = ["Cancelled", "cancel_event", "reverse_charge"]

# How often the work is begun again while parked usage is being priced, and the time between.
TRIES_MAX = 20
AGAIN_S = 0.1
OPERATOR = "operator"

T = TypeVar("T")


class Cancelled(NamedTuple):
    """What became of a usage event that is cancelled; `transaction` is the row that takes its charge back."""

    state: UsageState
    # Why it is cancelled, as it was said first, and whether that was now.
    reason: str
    new: bool
    transaction: dict[str, Any] | None


async def reverse_charge(
    database: Database, transaction: str, reason: str, *, caller: Caller, clock: Clock
) -> dict[str, Any]:
    """Takes a charge back and answers the row that does; a repeat, with whichever reason, answers the same row."""
    place = place_of(transaction)

    async def reverse(connection: AsyncConnection) -> dict[str, Any]:
        row = await find_transaction(connection, *place)
        if row is None:
            raise TransactionUnknown
        if not row["is_charge"]:
            raise NoUsageCharge
        cancellation = Cancellation(row["mandate_no"], row["event_id"], reason, caller.user_id)
        await _cancel(connection, cancellation, actor=caller.user_id, now=clock())
        reversing = await find_reversal(connection, cancellation.mandate_no, reversal_id(*cancellation.key))
        if reversing is None:
            raise RuntimeError(f"charge {transaction} is cancelled and not taken back")
        return await read_transaction(connection, cancellation.mandate_no, *reversing)

    return await _begun_again(database, reverse)


async def cancel_event(database: Database, mandate_id: str, event_id: UUID, reason: str, *, clock: Clock) -> Cancelled:
    """Cancels a usage event for an operator, also one that has not arrived; a repeat changes nothing. Raises
    `MandateUnknown` for a mandate without books that the directory does not know either, and `TransactionNamedError`
    where the id is that of a transaction of the mandate: as an event it would be awaited for ever."""

    async def cancel(connection: AsyncConnection) -> Cancelled:
        number = await find_number(connection, mandate_id)
        if number is None:
            number = await open_mandate(connection, mandate_id)
        await _refuse_transaction(connection, number, event_id)
        new = await _cancel(connection, Cancellation(number, event_id, reason), actor=OPERATOR, now=clock())
        first_reason = await read_reason(connection, number, event_id)
        reversing = await find_reversal(connection, number, reversal_id(number, event_id))
        if reversing is None:
            return Cancelled(await read_state(connection, number, event_id), first_reason, new, None)
        return Cancelled("reversed", first_reason, new, await read_transaction(connection, number, *reversing))

    return await _begun_again(database, cancel)


async def _refuse_transaction(connection: AsyncConnection, mandate_no: int, event_id: UUID) -> None:
    place = transaction_place(event_id)
    row = None if place is None else await find_transaction(connection, *place)
    if row is not None and row["mandate_no"] == mandate_no:
        raise TransactionNamedError(row["event_id"] if row["is_charge"] else None)


async def _cancel(connection: AsyncConnection, cancellation: Cancellation, *, actor: str, now: datetime) -> bool:
    """Whether the usage is cancelled from now on; False where it was before. Audited like every change of an
    administrator."""
    mandate = await lock_mandate(connection, cancellation.mandate_no)
    done = await cancel_usage(connection, [cancellation], {mandate.no: mandate}, now=now)
    if done.beyond_range:
        raise BalanceOutOfRange
    if done.new:
        await record_change(
            connection,
            mandate_no=mandate.no,
            actor=actor,
            action="cancellation",
            before=None,
            after={"eventId": cancellation.event_id, "reason": cancellation.reason},
            now=now,
        )
    return bool(done.new)


async def _begun_again(database: Database, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Does the work in one transaction, and again where the pricing of parked usage came between."""
    for _ in range(TRIES_MAX):
        try:
            async with database.transaction() as connection:
                return await work(connection)
        except Contended:
            await asyncio.sleep(AGAIN_S)
    raise Contended(f"after {TRIES_MAX} tries")
