"""The job that closes the months of all mandates in CREDIT_POSTPAY, each in its own calendar."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import sqlalchemy as sa

from services.billing.invoices.close_month import close_month
from services.billing.invoices.domain import month_over
from services.billing.invoices.repository import open_spans
from services.billing.mandates.repository import calendar_of
from services.billing.settings import InvoiceSettings
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints

__all__ = ["CloseMonths"]

# No day begins earlier than this before that of UTC.
EARLIEST_DAY = timedelta(hours=14)


class CloseMonths:
    """Closes every month that is over, the oldest first; one mandate that cannot be closed holds up no other."""

    def __init__(self, database: Database, *, settings: InvoiceSettings, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._settings = settings
        self._settle = timedelta(seconds=settings.close_after_s)
        self._clock = clock
        self._faults = faults

    async def __call__(self) -> int:
        """Closes what is due; returns how many months."""
        now = self._clock()
        newest = (now + EARLIEST_DAY).date().replace(day=1) - timedelta(days=1)
        async with self._database.reading() as connection:
            waiting = await open_spans(connection, newest)
        closed, failed = 0, None
        for row in waiting:
            try:
                for month in self._due(row, now):
                    closed += await close_month(
                        self._database,
                        row["mandate_no"],
                        month,
                        settings=self._settings,
                        clock=self._clock,
                        faults=self._faults,
                    )
            except Exception as error:  # noqa: BLE001 - raised below, when the others have been closed.
                failed = error
        if failed is not None:
            raise failed
        return closed

    def _due(self, row: sa.RowMapping, now: datetime) -> Iterator[date]:
        """The first days of the months of a mandate that are over and were not looked at."""
        calendar = calendar_of(row["mandate_no"], row["time_zone"], row["past_time_zones"])
        newest, _ = month_over(calendar, now, self._settle)
        done = row["closed_through"]
        month = calendar.day(row["opened_at"]).replace(day=1) if done is None else done + timedelta(days=1)
        while month <= newest:
            yield month
            month = (month + timedelta(days=31)).replace(day=1)
