"""Expiry of grants whose time is over. Checks, charges and balances leave them out from that moment on, before this
ran: it is for accounts that nothing else moves."""

from collections import defaultdict

from services.billing.ledger.grants import accounts_with_due_grants
from services.billing.ledger.write_postings import write_postings
from services.billing.mandates.repository import lock_mandate
from services.chassis.clock import Clock
from services.chassis.database import Database, begin

__all__ = ["ExpireGrants"]

# Grants that are looked for at once.
BATCH = 500


class ExpireGrants:
    """Looks for grants whose time is over."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def __call__(self) -> int:
        """Takes back what remains of some; returns how many accounts were looked at."""
        now = self._clock()
        by_mandate: dict[int, list[tuple[int, int]]] = defaultdict(list)
        async with self._database.reading() as connection:
            for mandate_no, account_no in await accounts_with_due_grants(connection, now=now, limit=BATCH):
                by_mandate[mandate_no].append((mandate_no, account_no))
            for mandate_no, touched in by_mandate.items():
                # A transaction for each mandate, so that none is locked while another's lock is waited for.
                async with begin(connection):
                    mandate = await lock_mandate(connection, mandate_no)
                    calendars = {mandate_no: mandate.calendar}
                    await write_postings(connection, (), calendars=calendars, now=now, touched=touched)
        return sum(map(len, by_mandate.values()))
