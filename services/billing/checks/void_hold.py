"""Voiding: the amount of a hold is given back before its time is over."""

from typing import Any
from uuid import UUID

from services.billing.checks.errors import CapturedAlready, HoldExpired, HoldUnknown
from services.billing.ledger.domain import hold_mandate_no
from services.billing.ledger.holds import read_holds, void_hold
from services.billing.mandates.repository import lock_mandates
from services.billing.money import money_json
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["void"]


async def void(database: Database, hold_id: UUID, *, clock: Clock) -> dict[str, Any]:
    """Voids an open hold; a repeat is answered as the first. 404 for one that is not there, 409 for one that is expired
    or was settled by usage."""
    mandate_no = hold_mandate_no(hold_id)
    if mandate_no is None:
        raise HoldUnknown
    async with database.transaction() as connection:
        await lock_mandates(connection, [mandate_no])
        now = clock()
        hold = (await read_holds(connection, [(mandate_no, hold_id)])).get(hold_id)
        if hold is None:
            raise HoldUnknown
        state = hold.state_at(now)
        if state == "CAPTURED":
            raise CapturedAlready
        if state == "EXPIRED":
            raise HoldExpired
        if state == "OPEN":
            await void_hold(connection, mandate_no, hold_id, now=now)
        return {"holdId": str(hold_id), "amount": money_json(hold.amount)}
