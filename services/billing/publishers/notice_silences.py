"""Noticing that the usage of a mandate has stopped: told once for each silence, and again only after usage has come.

What is usual is asked of the ledger when a mandate seems silent; a charge writes nothing for it.
"""

from datetime import datetime, timedelta
from uuid import uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.billing.v1 import PublisherSilent
from rappen_contracts.registry import PUBLISHER_SILENT_V1
from services.billing.ledger.domain import LEDGER_NAMESPACE
from services.billing.mandates.repository import calendar_of
from services.billing.publishers.domain import FORGOTTEN, is_silent, moments_before, usual_gap
from services.billing.publishers.metrics import PUBLISHERS_SILENT
from services.billing.publishers.queries import (
    Publisher,
    count_silent,
    last_unposted,
    last_usage_before,
    read_publishers,
)
from services.billing.publishers.repository import end_silences, note_silence
from services.chassis.clock import Clock
from services.chassis.database import Database, begin
from services.chassis.logging import get_logger
from services.chassis.outbox import append_outbox, outbox_row

__all__ = ["NoticeSilences"]

# Mandates that are read at once.
SLICE = 500

_log = get_logger(__name__)


class NoticeSilences:
    """Looks at every mandate. One whose last usage is not longer ago than `minimum` is not silent. For the time of
    `settle` after its first look nothing is noted: what came while no worker was there may still have to be charged."""

    def __init__(self, database: Database, *, minimum: timedelta, settle: timedelta, clock: Clock) -> None:
        self._database = database
        self._minimum = minimum
        self._settle = settle
        self._clock = clock
        self._since: datetime | None = None

    async def __call__(self) -> int:
        """Notes what is silent, and what is no longer; returns how many silences were noted."""
        now, noted, after = self._clock(), 0, 0
        self._since = self._since or now
        settled = now - self._since >= self._settle
        while True:
            # A connection for each slice, so that others get theirs.
            async with self._database.reading() as connection:
                publishers = await read_publishers(connection, after=after, limit=SLICE)
                await self._end(connection, publishers, now)
                for publisher in publishers if settled else ():
                    noted += await self._look_at(connection, publisher, now)
                if len(publishers) < SLICE:
                    PUBLISHERS_SILENT.set(await count_silent(connection))
                    return noted
                after = publishers[-1].mandate_no

    async def _end(self, connection: AsyncConnection, publishers: list[Publisher], now: datetime) -> None:
        """Ends the silences of those that have published again, and of those of whom nobody expects it any more."""
        ended = [
            each.mandate_no
            for each in publishers
            if each.silent_since is not None
            and not each.over
            and (
                not each.expected
                or now - each.silent_since > FORGOTTEN
                or (each.last_usage_at is not None and each.last_usage_at > each.silent_since)
            )
        ]
        if ended:
            await end_silences(connection, ended)

    async def _look_at(self, connection: AsyncConnection, publisher: Publisher, now: datetime) -> bool:
        last = publisher.last_usage_at
        if last is None or not publisher.expected or last == publisher.silent_since:
            return False
        if not self._minimum < now - last <= FORGOTTEN:
            return False
        calendar = calendar_of(publisher.mandate_no, publisher.time_zone, publisher.past_time_zones)
        moments = moments_before(last, now, calendar.zone, minimum=self._minimum)
        before = await last_usage_before(connection, publisher.mandate_no, moments)
        # The silence before this one is not what is usual.
        usual = usual_gap([moment for moment in before if moment.last_usage_at != publisher.silent_since])
        if usual is None or not is_silent(last, now, usual, minimum=self._minimum):
            return False
        unposted = await last_unposted(connection, publisher.mandate_no, last)
        if unposted is not None and not is_silent(unposted, now, usual, minimum=self._minimum):
            return False
        return await self._note(connection, publisher, last, usual, now)

    async def _note(
        self, connection: AsyncConnection, publisher: Publisher, last: datetime, usual: timedelta, now: datetime
    ) -> bool:
        """Notes the silence and tells of it; not where another worker has."""
        async with begin(connection):
            silence = await note_silence(connection, publisher.mandate_no, last_usage_at=last, now=now)
            if silence is None:
                return False
            identity = uuid5(LEDGER_NAMESPACE, f"silence/{publisher.mandate_no}/{silence}")
            silent = PublisherSilent(
                mandate_id=publisher.mandate_id,
                last_usage_at=last,
                usual_gap_s=int(usual.total_seconds()),
                noticed_at=now,
                silence=silence,
                cause=f"silence {silence} of {publisher.mandate_id}",
            )
            row = outbox_row(PUBLISHER_SILENT_V1, silent, event_id=identity, occurred_at=now, key=publisher.mandate_id)
            await append_outbox(connection, [row])
        _log.warning("publisher silent", mandate_id=publisher.mandate_id, since=last.isoformat())
        return True
