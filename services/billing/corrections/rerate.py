"""Pricing charges again by the prices and rates as they are now: what it would change, and the order to do it, which a
worker carries out."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

import orjson
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.types import parse_uuid
from services.billing.corrections.charges import EVERYTHING, Position, Selection
from services.billing.corrections.errors import ReratingUnknown
from services.billing.corrections.price_charges import NotPriced, Totals, price_page
from services.billing.corrections.reratings import (
    MANDATES_MAX,
    MandateTotals,
    find_rerating,
    insert_rerating,
    name_mandates,
    read_mandate_totals,
    read_totals,
)
from services.billing.corrections.run_reratings import CurrentQuotes
from services.billing.http import TakeTime
from services.billing.mandates.answers import PLATFORM, KeyedRequest, answer_once
from services.billing.mandates.audit_log import record_change
from services.billing.money import Exact, exact_difference, money_json, post
from services.billing.pricing import utc_text
from services.billing.pricing.repository import Tariffs
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["preview_rerating", "show_rerating", "start_rerating"]

OPERATOR = "operator"


def _no_progress(_: int) -> None:
    """Nobody watches."""


async def preview_rerating(
    database: Database,
    selection: Selection,
    *,
    tariffs: Tariffs,
    allow_long_answer: TakeTime | None = None,
    progress: Callable[[int], None] = _no_progress,
) -> dict[str, Any]:
    """What a re-rating would change now, by mandate; writes nothing. `progress` is told how many charges were
    priced."""
    quotes_now = CurrentQuotes(tariffs)
    by_mandate: dict[int, Totals] = {}
    not_priced: Counter[NotPriced] = Counter()
    priced = 0
    async with database.transaction() as connection:
        if allow_long_answer is not None:
            await allow_long_answer(connection)
        quotes = await quotes_now(connection)
        position: Position | None = Position()
        while position is not None:
            page = await price_page(connection, selection, EVERYTHING, position, quotes)
            for number, totals in page.totals.items():
                by_mandate.setdefault(number, Totals()).add(totals)
                priced += totals.charges
            not_priced += page.not_priced
            progress(priced)
            position = page.next
        listed = sorted(by_mandate, key=lambda no: abs(_difference(by_mandate[no])), reverse=True)[:MANDATES_MAX]
        names = await name_mandates(connection, listed)
    total = Totals()
    for totals in by_mandate.values():
        total.add(totals)
    mandates = [MandateTotals(names[no], by_mandate[no]) for no in listed if no in names]
    return {
        "id": None,
        "state": "PREVIEW",
        **_selection_json(selection),
        "startedAt": None,
        "startedByUserId": None,
        "finishedAt": None,
        **_outcome_json(total, mandates, len(by_mandate), not_priced),
    }


async def start_rerating(
    database: Database, selection: Selection, *, user_id: str | None, clock: Clock, key: str | None = None
) -> dict[str, Any]:
    """Orders a re-rating, for a system administrator or an operator (None), and answers it; the workers find it. A
    repeat with the same key gets the same one, as it stands by then."""
    now, actor = clock(), user_id or OPERATOR
    async with database.transaction() as connection:

        async def order() -> dict[str, Any]:
            rerating_id = uuid4()
            await insert_rerating(connection, rerating_id, selection, user_id=user_id, now=now)
            ordered = {"id": str(rerating_id), **_selection_json(selection)}
            await record_change(
                connection, mandate_no=None, actor=actor, action="rerating", before=None, after=ordered, now=now
            )
            return ordered

        body = orjson.dumps(_selection_json(selection)).decode()
        ordered = await answer_once(connection, KeyedRequest("rerating", PLATFORM, actor, key, body), order, now=now)
        return await _read(connection, UUID(ordered["id"]))


async def show_rerating(database: Database, rerating_id: str) -> dict[str, Any]:
    """A re-rating, how far it is and what it came to so far."""
    try:
        wanted = parse_uuid(rerating_id)
    except PydanticCustomError:
        raise ReratingUnknown from None
    async with database.transaction() as connection:
        return await _read(connection, wanted)


async def _read(connection: AsyncConnection, rerating_id: UUID) -> dict[str, Any]:
    rerating = await find_rerating(connection, rerating_id)
    if rerating is None:
        raise ReratingUnknown
    totals, number = await read_totals(connection, rerating_id)
    mandates = await read_mandate_totals(connection, rerating_id)
    return {
        "id": str(rerating.id),
        "state": "RUNNING" if rerating.finished_at is None else "DONE",
        **_selection_json(rerating.selection),
        "startedAt": rerating.started_at,
        "startedByUserId": rerating.started_by_user_id,
        "finishedAt": rerating.finished_at,
        **_outcome_json(totals, mandates, number, rerating.not_priced),
    }


def _selection_json(selection: Selection) -> dict[str, Any]:
    return {
        "from": utc_text(selection.from_time),
        "to": utc_text(selection.to_time),
        "provider": selection.provider,
        "model": selection.model,
    }


def _outcome_json(
    totals: Totals, mandates: Sequence[MandateTotals], mandate_count: int, not_priced: Counter[NotPriced]
) -> dict[str, Any]:
    return {
        **_totals_json(totals),
        "mandates": [{"mandateId": each.mandate_id, **_totals_json(each.totals)} for each in mandates],
        "moreMandates": mandate_count - len(mandates),
        "notPriced": [
            {"reason": why.reason, "provider": why.provider, "model": why.model, "currency": why.currency}
            | {"charges": count}
            for why, count in not_priced.most_common()
        ],
    }


def _totals_json(totals: Totals) -> dict[str, Any]:
    """Exact prices as money, each rounded for itself; the difference is that of what is shown."""
    before, after = _rounded(totals.before), _rounded(totals.after)
    return {
        "charges": totals.charges,
        "differing": totals.differing,
        "oldTotal": money_json(before),
        "newTotal": money_json(after),
        "difference": money_json(after - before),
    }


def _difference(totals: Totals) -> int:
    return _rounded(exact_difference(totals.after, totals.before))


def _rounded(amount: Exact) -> int:
    return post(amount, 0)[0]
