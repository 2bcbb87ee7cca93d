"""Running re-ratings: a page of charges in each transaction, which also says how far it is. Whoever dies in between is
followed by somebody else, from there on."""

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
from services.chassis.database import Database
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


class RunReratings:
    """Works on re-ratings, one page at a time. Several workers may: each re-rating is in one transaction at a time, and
    of two that look at the same charges the second finds them corrected."""

    def __init__(self, database: Database, *, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._clock = clock
        self._faults = faults
        self._quotes = CurrentQuotes(Tariffs())

    async def __call__(self, rerating_id: UUID | None = None) -> int:
        """Goes one page on with the oldest re-rating, or the given one; 0 where there is nothing to do, or somebody
        else does it."""
        async with self._database.transaction() as connection:
            rerating = await lock_running(connection, rerating_id)
            if rerating is None:
                return 0
            await save_progress(connection, await self._advance(connection, rerating))
            self._faults.reach("before_rerating_commit")
        self._faults.reach("after_rerating_commit")
        return 1

    async def _advance(self, connection: AsyncConnection, rerating: Rerating) -> Rerating:
        position = rerating.position
        if position.occurred_at is None:
            number = await next_mandate(connection, rerating.selection, position.mandate_no)
            if number is None:
                return rerating._replace(finished_at=self._clock())
            position = Position(number)
        page = await price_page(connection, rerating.selection, position, await self._quotes(connection))
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
