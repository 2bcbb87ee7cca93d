"""What a declined payment does to the recharge that it was for; the last of several in a row turns recharges off."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.billing.v1 import RechargeDisabled
from rappen_contracts.payment.v1 import PaymentFailed
from rappen_contracts.registry import RECHARGE_DISABLED_V1
from services.billing.ledger.domain import LEDGER_NAMESPACE
from services.billing.ledger.keys import ensure_mandates
from services.billing.mandates.audit_log import record_change
from services.billing.mandates.repository import LockedMandate, lock_mandates
from services.billing.recharges.domain import FAILURES_MAX
from services.billing.recharges.repository import mark_failed, turn_off_recharges
from services.chassis.clock import Clock
from services.chassis.consumer import Received, data_of
from services.chassis.database import Database
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.outbox import append_outbox, outbox_row
from services.chassis.quarantine import Refused, quarantine

__all__ = ["FailRecharges"]

# Who changed the settings, where the platform did.
PLATFORM = "platform"


class FailRecharges:
    """The handler of payment.failed. Only declined recharges concern billing: one that somebody has to confirm first
    stays pending, and may yet succeed."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction."""
        now = self._clock()
        failed = [data_of(received.event, PaymentFailed) for received in events]
        declined = [(each, each.recharge_id) for each in failed if each.outcome == "declined" and each.recharge_id]
        outcomes = ["noted"] * (len(failed) - len(declined))
        async with self._database.transaction() as connection:
            if declined:
                numbers = await ensure_mandates(connection, [each.mandate_id for each, _ in declined])
                mandates = await lock_mandates(connection, numbers.values())
                for each, recharge_id in declined:
                    outcomes.append(await _fail(connection, mandates[numbers[each.mandate_id]], each, recharge_id, now))
            await quarantine(connection, refused, group="billing", now=now)
        for outcome in outcomes:
            EVENTS_CONSUMED.labels("payment.failed", outcome).inc()
        return refused


async def _fail(
    connection: AsyncConnection, mandate: LockedMandate, failed: PaymentFailed, recharge_id: UUID, now: datetime
) -> str:
    """Notes that a recharge was declined, once; what was paid stays paid, whichever of the two is told first."""
    failures = await mark_failed(connection, mandate.no, recharge_id, cause=failed.reference, now=now)
    if failures is None:
        return "repeated"
    if failures >= FAILURES_MAX and await turn_off_recharges(connection, mandate.no):
        await record_change(
            connection,
            mandate_no=mandate.no,
            actor=PLATFORM,
            action="settings",
            before={"autoRechargeEnabled": True},
            after={"autoRechargeEnabled": False},
            now=now,
        )
        disabled = RechargeDisabled(
            mandate_id=mandate.id, recharge_id=recharge_id, failures=failures, cause=failed.cause
        )
        event_id = uuid5(LEDGER_NAMESPACE, f"recharge disabled/{mandate.no}/{recharge_id}")
        row = outbox_row(RECHARGE_DISABLED_V1, disabled, event_id=event_id, occurred_at=now, key=mandate.id)
        await append_outbox(connection, [row])
    return "applied"
