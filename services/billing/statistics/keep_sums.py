"""Sums of rollups for mandates that have come to have many, up to the day that is over, so that their statistics cost
what those of others do."""

from datetime import timedelta

from services.billing.mandates.repository import calendar_of, lock_mandate
from services.billing.statistics.repository import look_at_mandates, sum_rollups
from services.chassis.clock import Clock
from services.chassis.database import Database, begin, extend_timeouts

__all__ = ["MANY", "KeepSums"]

# So many rollups are read in a few milliseconds; those of a mandate with more are summed.
MANY = 5_000
# Mandates that are looked at in one run.
SLICE = 200
# The time that summing may take: of a mandate that had millions of rollups when the platform was upgraded.
SUMMING_S = 600.0


class KeepSums:
    """Looks at mandates, some in each run, in turn."""

    def __init__(self, database: Database, *, clock: Clock, many: int = MANY) -> None:
        self._database = database
        self._clock = clock
        self._many = many
        self._after = 0

    async def __call__(self) -> int:
        """Sums what is over, of mandates that need it; returns of how many."""
        now, made = self._clock(), 0
        async with self._database.reading() as connection:
            looked_at = await look_at_mandates(connection, after=self._after, limit=SLICE, many=self._many)
            self._after = looked_at[-1].mandate_no if len(looked_at) == SLICE else 0
            for mandate in looked_at:
                calendar = calendar_of(mandate.mandate_no, mandate.time_zone, mandate.past_time_zones)
                until = calendar.day(now) - timedelta(days=1)
                if not mandate.many or (mandate.summed_until is not None and mandate.summed_until >= until):
                    continue
                # A transaction for each mandate: its charges wait for it.
                async with begin(connection):
                    await extend_timeouts(connection, SUMMING_S)
                    await lock_mandate(connection, mandate.mandate_no)
                    made += await sum_rollups(connection, mandate.mandate_no, until=until)
        return made
