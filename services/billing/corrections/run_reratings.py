"""Running re-ratings: a page of charges in each transaction, which also says how far its part of the re-rating is.
Several workers carry out parts at once, each on mandates of its own. Whoever dies is followed by somebody else, from
there on.

While the differences of a page are written, the next page is read and priced on a second connection. That needs no
lock, and what is cancelled or corrected in between is found where its difference is posted.
"""

import asyncio
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.correct_prices import correct_prices
from services.billing.corrections.charges import Part, Position, mandates_of
from services.billing.corrections.price_charges import NotPriced, PricedPage, price_page
from services.billing.corrections.reratings import RunningPart, add_totals, finish_if_last, lock_part, save_progress
from services.billing.mandates.repository import lock_mandates, wait_for_holders
from services.billing.pricing.quotes import Quotes
from services.billing.pricing.repository import Tariffs, current_tariff, keep_revision
from services.chassis.clock import Clock
from services.chassis.database import Database, DatabaseUnavailable
from services.chassis.faults import FaultPoints

__all__ = ["CurrentQuotes", "RunReratings"]

TOO_LARGE = "AMOUNT_TOO_LARGE"


class CurrentQuotes:
    """The quotes of the price book as it is, made anew when it has changed."""

    def __init__(self, tariffs: Tariffs) -> None:
        self._tariffs = tariffs
        self._quotes: Quotes | None = None

    async def __call__(self, connection: AsyncConnection) -> Quotes:
        """The quotes by which charges are priced again now."""
        tariff = await current_tariff(connection, self._tariffs)
        if self._quotes is None or self._quotes.tariff is not tariff:
            self._quotes = Quotes(tariff)
        return self._quotes


class _Priced(NamedTuple):
    """A page, of which part of which re-rating, behind which position, by which quotes."""

    rerating_id: UUID
    part: Part
    position: Position
    quotes: Quotes
    page: PricedPage


class _ReadAhead:
    """Prices the page that comes after the one that is being written."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: asyncio.Task[_Priced | None] | None = None
        self._priced: _Priced | None = None

    def take(self, running: RunningPart, quotes: Quotes) -> PricedPage | None:
        """The page behind the position of a part, if it is the one that was priced, and by these quotes."""
        priced, self._priced = self._priced, None
        if priced is None or priced[:3] != (running.rerating_id, running.part, running.position):
            return None
        return priced.page if priced.quotes is quotes else None

    def begin(self, running: RunningPart, position: Position, quotes: Quotes) -> None:
        """Begins with the page behind a position; `finish` or `give_up` has to follow."""
        self._running = asyncio.create_task(self._price(running, position, quotes))

    async def finish(self) -> None:
        """Waits until the page is priced, which `take` then gives."""
        if self._running is not None:
            self._priced, self._running = await self._running, None

    async def give_up(self) -> None:
        """Ends what was begun, because the page before was not written."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _price(self, running: RunningPart, position: Position, quotes: Quotes) -> _Priced | None:
        try:
            async with self._database.reading() as connection:
                page = await price_page(connection, running.selection, running.part, position, quotes)
        except DatabaseUnavailable:
            # No connection is to spare for it; the page is read when it is its turn.
            return None
        return _Priced(running.rerating_id, running.part, position, quotes, page)


class RunReratings:
    """Works on re-ratings, one page at a time. Several workers may: each part is in one transaction at a time, and of
    two re-ratings that look at the same charges the second finds them corrected."""

    def __init__(self, database: Database, *, clock: Clock, faults: FaultPoints, reads_ahead: bool = True) -> None:
        """`reads_ahead` is for a database with a connection to spare."""
        self._database = database
        self._clock = clock
        self._faults = faults
        self._quotes = CurrentQuotes(Tariffs())
        self._ahead = _ReadAhead(database) if reads_ahead else None
        # The part that was worked on last, as (re-rating, number).
        self._last = UUID(int=0), 0
        # Parts that could not go on, as where somebody holds a mandate, since the others were looked at.
        self._failed: set[tuple[UUID, int]] = set()

    async def __call__(self, rerating_id: UUID | None = None) -> int:
        """Goes one page on with a part of the oldest re-rating, or of the given one; 0 where there is nothing to do, or
        others do it."""
        try:
            async with self._database.transaction() as connection:
                running = await lock_part(connection, rerating_id, self._last, self._failed)
                if running is None:
                    return 0
                this = running.rerating_id, running.part.number
                if this in self._failed:
                    self._failed.clear()
                self._last = this
                await self._advance(connection, running)
                self._faults.reach("before_rerating_commit")
            self._faults.reach("after_rerating_commit")
            # After the commit, so that nobody's lock waits for it.
            if self._ahead is not None:
                await self._ahead.finish()
        except BaseException:
            self._failed.add(self._last)
            if self._ahead is not None:
                await self._ahead.give_up()
            raise
        return 1

    async def _advance(self, connection: AsyncConnection, running: RunningPart) -> None:
        if running.position == Position():
            # Charges that were priced before this was ordered and are being written. Whoever locks a mandate later sees
            # under the lock that prices have changed. Of all mandates, because what is written may be the first of its
            # provider and model.
            await wait_for_holders(connection, await mandates_of(connection, running.part))
        # Who orders a re-rating after a change of prices finds all that was corrected by those before.
        await keep_revision(connection)
        quotes = await self._quotes(connection)
        page = None if self._ahead is None else self._ahead.take(running, quotes)
        if page is None:
            page = await price_page(connection, running.selection, running.part, running.position, quotes)
        if self._ahead is not None and page.next is not None:
            self._ahead.begin(running, page.next, quotes)
        if page.due:
            await self._correct(connection, running, page)
        await add_totals(connection, running.rerating_id, page.totals)
        moved = running._replace(
            position=page.next or running.position, not_priced=running.not_priced + page.not_priced
        )
        finished_at = None if page.next else self._clock()
        await save_progress(connection, moved, finished_at=finished_at)
        if finished_at is not None:
            await finish_if_last(connection, running.rerating_id, now=finished_at)

    async def _correct(self, connection: AsyncConnection, running: RunningPart, page: PricedPage) -> None:
        """Posts the differences, and counts those as they are that could not be, or were cancelled or corrected while
        the page was priced."""
        numbers = sorted({each.charge.mandate_no for each in page.due})
        # First without a lock, so that where somebody holds one of them charges of the others need not wait, too.
        await wait_for_holders(connection, numbers)
        mandates = await lock_mandates(connection, numbers)
        left = await correct_prices(connection, page.due, mandates, rerating_id=running.rerating_id, now=self._clock())
        if not left.meanwhile and not left.beyond_range:
            return
        for charge, _, standing, wanted in page.due:
            if charge.key in left.beyond_range:
                page.not_priced[NotPriced(TOO_LARGE, charge.provider, charge.model, None)] += 1
            elif charge.key not in left.meanwhile:
                continue
            page.totals[charge.mandate_no].keep(standing, wanted.price)
