"""Sums of rollups for mandates that have come to have many, so that their statistics cost what those of others do."""

from services.billing.mandates.repository import lock_mandate
from services.billing.statistics.repository import keep_sums, look_for_many
from services.chassis.database import Database, begin, extend_timeouts
from services.chassis.logging import get_logger

__all__ = ["MANY", "KeepSums"]

# So many rollups are read in about a millisecond; a mandate with more gets sums.
MANY = 2_000
# Mandates that are looked at in one run.
SLICE = 200
# The time that making the sums may take: of a mandate that had millions of rollups when the platform was upgraded.
SUMMING_S = 600.0

_log = get_logger(__name__)


class KeepSums:
    """Looks at the mandates without sums, some in each run, in turn."""

    def __init__(self, database: Database, *, many: int = MANY) -> None:
        self._database = database
        self._many = many
        self._after = 0

    async def __call__(self) -> int:
        """Makes the sums of mandates that need them; returns how many."""
        made = 0
        async with self._database.reading() as connection:
            looked_at = await look_for_many(connection, after=self._after, limit=SLICE, many=self._many)
            self._after = looked_at[-1].mandate_no if len(looked_at) == SLICE else 0
            for mandate_no, many in looked_at:
                if many:
                    # A transaction for each mandate: its charges wait for it.
                    async with begin(connection):
                        await extend_timeouts(connection, SUMMING_S)
                        await lock_mandate(connection, mandate_no)
                        made += await keep_sums(connection, mandate_no)
                    _log.info("sums of rollups kept", mandate_no=mandate_no)
        return made
