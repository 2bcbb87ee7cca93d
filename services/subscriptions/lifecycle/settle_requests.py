"""What became of requests to Stripe: for who waits for an answer, and to end a record whose checkout was refused."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.stripe.v1 import StripeSettled
from services.chassis.clock import Clock
from services.chassis.consumer import Received, data_of
from services.chassis.database import Database, announce
from services.chassis.logging import get_logger
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine
from services.subscriptions.lifecycle.await_stripe import ANSWERS
from services.subscriptions.lifecycle.domain import end
from services.subscriptions.lifecycle.record_changes import record_changes
from services.subscriptions.lifecycle.repository import lock_mandate, lock_records
from services.subscriptions.stripe.repository import mark_due, settle_request

__all__ = ["SETTLED", "SettleRequests"]

GROUP = "subscriptions"
SETTLED = "stripe.settled"

_log = get_logger(__name__)


class SettleRequests:
    """Handler of stripe.settled; an answer that is told again changes nothing."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction."""
        answers = [data_of(received.event, StripeSettled) for received in events]
        async with self._database.transaction() as connection:
            for mandate_id in sorted({settled.mandate_id for settled in answers}):
                await lock_mandate(connection, mandate_id)
            for settled in answers:
                await self._settle(connection, settled)
            await quarantine(connection, list(refused), group=GROUP, now=self._clock())
            announce(connection, ANSWERS)
        EVENTS_CONSUMED.labels(SETTLED, "applied").inc(len(events))
        return refused

    async def _settle(self, connection: AsyncConnection, settled: StripeSettled) -> None:
        action = await settle_request(connection, settled)
        if action == "cancel":
            # What was seen of it meanwhile counts, where it stays.
            await mark_due(connection, settled.subscription_id)
        if action is None or settled.outcome != "refused":
            return
        _log.warning("refused at Stripe", action=action, code=settled.code, id=str(settled.subscription_id))
        if action != "checkout":
            return
        records = await lock_records(connection, settled.mandate_id)
        record = records.get(settled.subscription_id)
        # Nothing was opened, so nothing can come of it.
        if record is not None and record.state == "PENDING":
            now = self._clock()
            await record_changes(connection, [end(record, at=now)], cause=settled.cause, actor=None, now=now)
