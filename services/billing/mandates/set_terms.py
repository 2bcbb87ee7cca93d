"""Replacing a mandate's markup and credit limit: by the system administrator, audited."""

from decimal import Decimal
from typing import Any

from rappen_contracts.types import NonNegativeBalance
from services.billing.errors import AmountAboveCeiling
from services.billing.http import micro_chf
from services.billing.ledger.keys import AccountKey, ensure_accounts
from services.billing.ledger.low_balances import note_low_balances_of_mandate
from services.billing.mandates.audit_log import record_change
from services.billing.mandates.open_mandate import open_mandate
from services.billing.mandates.repository import lock_mandate, write_terms
from services.billing.money import money_json
from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["set_terms"]

_IN_CHF = {"en": "a credit limit is in CHF", "de": "ein Kreditlimit ist in CHF"}


async def set_terms(
    database: Database,
    mandate_id: str,
    *,
    markup_percent: Decimal | None,
    credit_limit: NonNegativeBalance | None,
    limit_max: Decimal,
    caller: Caller,
    clock: Clock,
) -> dict[str, Any]:
    """Sets both and answers them; None takes the plan's or global markup, and no limit. `limit_max` is in CHF."""
    limit = None if credit_limit is None else _micros(credit_limit, limit_max)
    now = clock()
    async with database.transaction() as connection:
        mandate_no = await open_mandate(connection, mandate_id)
        await lock_mandate(connection, mandate_no)
        pool = AccountKey(mandate_no, "MANDATE")
        pool_no = (await ensure_accounts(connection, [pool]))[pool]
        before = await write_terms(connection, mandate_no, pool_no, markup_percent=markup_percent, credit_limit=limit)
        await note_low_balances_of_mandate(connection, mandate_no, now=now)
        await record_change(
            connection,
            mandate_no=mandate_no,
            actor=caller.user_id,
            action="terms",
            before={"markupPercent": before["markup_percent"], "creditLimit": before["credit_limit"]},
            after={"markupPercent": markup_percent, "creditLimit": limit},
            now=now,
        )
    return {"markupPercent": markup_percent, "creditLimit": None if limit is None else money_json(limit)}


def _micros(limit: NonNegativeBalance, limit_max: Decimal) -> int:
    """A credit limit as the ledger has it, up to the platform's ceiling."""
    micros = micro_chf(limit, "creditLimit", currency=_IN_CHF)
    if limit.amount > limit_max:
        raise AmountAboveCeiling("creditLimit.amount", limit_max)
    return micros
