"""A request to switch the billing model: made once for each idempotency key, with a longer time limit."""

from typing import Any

from services.billing.http import TakeTime
from services.billing.ledger.domain import BillingModel
from services.billing.mandates.answers import KeyedRequest, answer_once
from services.billing.mandates.open_mandate import open_mandate
from services.billing.mandates.switch_model import InvoicedSpans, switch_model
from services.billing.money import money_json
from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["change_model"]


async def change_model(
    database: Database,
    mandate_id: str,
    model: BillingModel,
    *,
    key: str | None,
    body: str,
    spans: InvoicedSpans,
    caller: Caller,
    allow_long_answer: TakeTime,
    clock: Clock,
) -> dict[str, Any]:
    """Switches the model and returns what was moved; a repeat with the same key gets the first answer, unless `body`
    differs."""
    async with database.transaction() as connection:
        await allow_long_answer(connection)
        mandate_no = await open_mandate(connection, mandate_id)

        async def switch() -> dict[str, Any]:
            done = await switch_model(connection, mandate_no, model, spans=spans, caller=caller, now=clock())
            return {
                "oldModel": done.old_model,
                "newModel": done.new_model,
                "migratedAmount": money_json(done.migrated),
                "userCount": done.user_count,
            }

        asked = KeyedRequest("model", mandate_no, caller.user_id, key, body)
        return await answer_once(connection, asked, switch, now=clock())
