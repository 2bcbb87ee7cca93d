"""Running re-ratings: a page of charges in each transaction, which also says how far it is. Whoever dies in between is
followed by somebody else, from there on.

While the differences of a page are written, the next page is read and priced on a second connection. That needs no
lock, and what is cancelled or corrected in between is found where its difference is posted.
"""

import asyncio
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.correct_prices import correct_prices
from services.billing.corrections.charges import Position, next_mandate
from services.billing.corrections.price_charges import NotPriced, PricedPage, price_page
from services.billing.corrections.reratings import Rerating, add_totals, lock_running, save_progress
from services.billing.mandates.repository import lock_mandate
from services.billing.pricing.quotes import Quotes
from services.billing.pricing.repository import Tariffs, current_tariff
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
    """A page, of which re-rating, behind which position, by which quotes."""

    rerating_id: UUID
    position: Position
    quotes: Quotes
    page: PricedPage


class _ReadAhead:
    """Prices the page that comes after the one that is being written."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: asyncio.Task[_Priced | None] | None = None
        self._priced: _Priced | None = None

    def take(self, rerating: Rerating, position: Position, quotes: Quotes) -> PricedPage | None:
        """The page behind a position, if it is the one that was priced, and by these quotes."""
        priced, self._priced = self._priced, None
        if priced is None or priced[:2] != (rerating.id, position) or priced.quotes is not quotes:
            return None
        return priced.page

    def begin(self, rerating: Rerating, position: Position, quotes: Quotes) -> None:
        """Begins with the page behind a position; `finish` or `give_up` has to follow."""
        self._running = asyncio.create_task(self._price(rerating, position, quotes))

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

    async def _price(self, rerating: Rerating, position: Position, quotes: Quotes) -> _Priced | None:
        try:
            async with self._database.reading() as connection:
                page = await price_page(connection, rerating.selection, position, quotes)
        except DatabaseUnavailable:
            # No connection is to spare for it; the page is read when it is its turn.
            return None
        return _Priced(rerating.id, position, quotes, page)


class RunReratings:
    """Works on re-ratings, one page at a time. Several workers may: each re-rating is in one transaction at a time, and
    of two that look at the same charges the second finds them corrected."""

    def __init__(self, database: Database, *, clock: Clock, faults: FaultPoints, reads_ahead: bool = True) -> None:
        """`reads_ahead` is for a database with a connection to spare."""
        self._database = database
        self._clock = clock
        self._faults = faults
        self._quotes = CurrentQuotes(Tariffs())
        self._ahead = _ReadAhead(database) if reads_ahead else None

    async def __call__(self, rerating_id: UUID | None = None) -> int:
        """Goes one page on with the oldest re-rating, or the given one; 0 where there is nothing to do, or somebody
        else does it."""
        try:
            async with self._database.transaction() as connection:
                rerating = await lock_running(connection, rerating_id)
                if rerating is None:
                    return 0
                await save_progress(connection, await self._advance(connection, rerating))
                self._faults.reach("before_rerating_commit")
            self._faults.reach("after_rerating_commit")
            # After the commit, so that nobody's lock waits for it.
            if self._ahead is not None:
                await self._ahead.finish()
        except BaseException:
            if self._ahead is not None:
                await self._ahead.give_up()
            raise
        return 1

    async def _advance(self, connection: AsyncConnection, rerating: Rerating) -> Rerating:
        position = rerating.position
        if position.occurred_at is None:
            number = await next_mandate(connection, rerating.selection, position.mandate_no)
            if number is None:
                return rerating._replace(finished_at=self._clock())
            position = Position(number)
        quotes = await self._quotes(connection)
        page = None if self._ahead is None else self._ahead.take(rerating, position, quotes)
        if page is None:
            page = await price_page(connection, rerating.selection, position, quotes)
        if self._ahead is not None and page.next is not None:
            self._ahead.begin(rerating, page.next, quotes)
        if page.due:
            await self._correct(connection, rerating, position.mandate_no, page)
        await add_totals(connection, rerating.id, position.mandate_no, page.totals)
        return rerating._replace(
            position=page.next or Position(position.mandate_no), not_priced=rerating.not_priced + page.not_priced
        )

    async def _correct(
        self, connection: AsyncConnection, rerating: Rerating, mandate_no: int, page: PricedPage
    ) -> None:
        """Posts the differences, and counts those as they are that could not be, or were cancelled or corrected while
        the page was priced."""
        mandate = await lock_mandate(connection, mandate_no)
        done = await correct_prices(connection, page.due, mandate, rerating_id=rerating.id, now=self._clock())
        for charge, _, standing, wanted in page.due:
            if charge.key not in done.keys:
                page.totals.keep(standing, wanted.price)
            if charge.key in done.beyond_range:
                page.not_priced[NotPriced(TOO_LARGE, charge.provider, charge.model, None)] += 1
