"""A request for a manual credit or deduction, and the question whether a top-up could be credited in the same way."""

from decimal import Decimal
from typing import Any

from services.billing.credits.post_manual_credit import ManualCredit, credited_account, post_manual_credit
from services.billing.errors import AmountAboveCeiling
from services.billing.mandates.open_mandate import open_mandate
from services.billing.mandates.repository import lock_mandate
from services.billing.parameters import IdOf
from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["find_top_up_target", "give_credit"]


async def give_credit(
    database: Database, mandate_id: str, credit: ManualCredit, *, amount_max: Decimal, caller: Caller, clock: Clock
) -> dict[str, Any]:
    """Posts the credit and answers its row; `amount_max` is in CHF, either way."""
    if abs(credit.amount) > amount_max:
        raise AmountAboveCeiling("amount", amount_max)
    async with database.transaction() as connection:
        mandate_no = await open_mandate(connection, mandate_id)
        return await post_manual_credit(connection, mandate_no, credit, caller=caller, now=clock())


async def find_top_up_target(
    database: Database, mandate_id: str, user_id: str | None, *, clock: Clock
) -> dict[str, Any]:
    """Whom a top-up would credit: the mandate's pool or a member's own budget, whose account is made if it is
    missing."""
    async with database.transaction() as connection:
        mandate_no = await open_mandate(connection, mandate_id)
        target = None if user_id is None else IdOf("userId").read(user_id)
        mandate = await lock_mandate(connection, mandate_no)
        await credited_account(connection, mandate, target, now=clock())
    return {"mandateId": mandate_id, "userId": user_id}
