"""Pricing a page of charges again: what they cost before and after, and which of them could not be priced."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.cancellations import EventKey, read_cancellations
from services.billing.charging.correct_prices import PriceToCorrect
from services.billing.charging.price_corrections import StandingPrice, read_marks, read_standing
from services.billing.corrections.charges import PageRow, Part, Position, Selection, read_page
from services.billing.money import Exact, exact, exact_difference, exact_sum
from services.billing.pricing.derivation import posted_price, read_derivation
from services.billing.pricing.price_again import price_again
from services.billing.pricing.quotes import Quotes
from services.billing.pricing.rating import Parked

__all__ = ["PAGE", "NotPriced", "PricedPage", "Totals", "price_page"]

# Charges that are read at once, and corrected in one transaction where all of them differ: while it lasts, usage of
# their mandates waits. With pages of 500 half of the usage beside waits a third as long, and a re-rating takes a third
# longer.
PAGE = 2_000
# Charges that are priced before others of the process get their turn.
AT_ONCE = 100
# The charge of an older release, or a row that somebody changed: it does not say what it was priced from.
NOT_KEPT = "NOT_KEPT"


class NotPriced(NamedTuple):
    """Why charges are left as they are: their model has no price or their currency no rate any more, they do not say
    what they were priced from, or no balance could hold the correction."""

    reason: str
    provider: str | None
    model: str | None
    currency: str | None


@dataclass(slots=True)
class Totals:
    """Charges that were priced again, those whose price differs, and the exact prices (CHF) of all of them."""

    charges: int = 0
    differing: int = 0
    before: Exact = 0
    after: Exact = 0

    def count(self, before: Exact, after: Exact) -> None:
        """Adds one charge."""
        self.charges += 1
        self.differing += before != after
        self.before = exact_sum(self.before, before)
        self.after = exact_sum(self.after, after)

    def keep(self, before: Exact, after: Exact) -> None:
        """One that differs stays as it is."""
        self.differing -= 1
        self.after = exact_sum(self.after, exact_difference(before, after))

    def add(self, others: "Totals") -> None:
        """Adds those of other charges."""
        self.charges += others.charges
        self.differing += others.differing
        self.before = exact_sum(self.before, others.before)
        self.after = exact_sum(self.after, others.after)


@dataclass(slots=True)
class PricedPage:
    """What became of a page, by mandate. `next` is the position behind it, None where it was the last one."""

    next: Position | None
    totals: dict[int, Totals] = field(default_factory=dict)
    due: list[PriceToCorrect] = field(default_factory=list)
    not_priced: Counter[NotPriced] = field(default_factory=Counter)


async def price_page(
    connection: AsyncConnection, selection: Selection, part: Part, position: Position, quotes: Quotes
) -> PricedPage:
    """Reads the page behind the position and prices it by what holds now. Cancelled usage is left out: what was charged
    for it is taken back."""
    rows = await read_page(connection, selection, part, position, PAGE)
    page = PricedPage(None)
    if len(rows) == PAGE:
        last = rows[-1].charge
        page.next = Position(last.mandate_no, last.occurred_at, last.event_id)
    wanted = [row for row in rows if row.wanted]
    marks = await read_marks(connection, {row.charge.mandate_no for row in wanted})
    standing: dict[EventKey, StandingPrice] = {}
    if marks.corrections:
        keys = [row.charge.key for row in wanted if row.charge.mandate_no in marks.corrections]
        standing = await read_standing(connection, keys)
    if marks.cancellations:
        keys = [row.charge.key for row in wanted if row.charge.mandate_no in marks.cancellations]
        cancelled = await read_cancellations(connection, keys)
        wanted = [row for row in wanted if row.charge.key not in cancelled]
    for begin in range(0, len(wanted), AT_ONCE):
        _price(wanted[begin : begin + AT_ONCE], standing, quotes, page)
        # A preview runs beside the checks of its process, which are due in milliseconds.
        await asyncio.sleep(0)
    return page


def _price(rows: Sequence[PageRow], standing: dict[EventKey, StandingPrice], quotes: Quotes, page: PricedPage) -> None:
    for charge, amount, _, derivation in rows:
        names = charge.provider, charge.model
        try:
            kept = read_derivation(derivation or "")
            known = standing.get(charge.key) if standing else None
            before = posted_price(kept, amount) if known is None else exact(known.price)
            wanted = price_again(kept, model=names, at=charge.occurred_at, quotes=quotes)
        except (ArithmeticError, ValueError):
            page.not_priced[NotPriced(NOT_KEPT, *names, None)] += 1
            continue
        if isinstance(wanted, Parked):
            page.not_priced[NotPriced(wanted.reason, *names, wanted.currency)] += 1
            continue
        totals = page.totals.get(charge.mandate_no)
        if totals is None:
            totals = page.totals[charge.mandate_no] = Totals()
        totals.count(before, wanted.price)
        if before != wanted.price:
            page.due.append(PriceToCorrect(charge, kept, before, wanted))
