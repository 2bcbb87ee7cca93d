"""Reads of the price book, the rate table, and the events that wait for either."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncResult

from services.billing.errors import MalformedParameter
from services.billing.pricing import EARLIEST, RateTable, version_to_json
from services.billing.pricing.rating import Tariff
from services.billing.pricing.repository import (
    StoredRate,
    Tariffs,
    current_tariff,
    read_rates,
    readable_time,
    stored_version,
)
from services.billing.pricing.unposted import waiting
from services.billing.tables import mandates, prices, unposted_events
from services.chassis.database import Database

__all__ = ["list_prices", "list_rates", "list_unpriced", "rates_listed", "stream_waiting"]

# How many characters are shown of the stored text of a version that cannot be used.
STORED_TEXT_MAX = 500
# Parked events read at once: few enough that pricing them holds up no other request for long.
_WAITING_ROWS = 200
# Written out in statements, because a plan for any values could not use the index of parked events.
_WAITING: Sequence[sa.ColumnElement[str]] = [sa.literal_column(f"'{reason}'") for reason in ("NO_PRICE", "NO_RATE")]


async def list_prices(
    database: Database,
    tariffs: Tariffs,
    *,
    provider: str | None,
    model: str | None,
    now: datetime,
    after: int,
    limit: int,
) -> dict[str, Any]:
    """Price versions in the order in which they were recorded, with what holds now and what cannot be used."""
    read = (
        sa.select(
            prices.c.id,
            prices.c.provider,
            prices.c.model,
            prices.c.version,
            prices.c.created_by_user_id,
            prices.c.set_aside,
            readable_time(prices.c.created_at),
        )
        .where(prices.c.id > after, *_equal(prices.c.provider, provider), *_equal(prices.c.model, model))
        .order_by(prices.c.id)
        .limit(limit + 1)
    )
    async with database.reading() as connection:
        tariff = await current_tariff(connection, tariffs)
        rows = (await connection.execute(read)).mappings().all()
    items = [_price_json(row, tariff, now) for row in rows[:limit]]
    return {"items": items, "nextCursor": str(rows[limit - 1]["id"]) if len(rows) > limit else None}


def _equal(column: sa.Column[Any], wanted: str | None) -> list[sa.ColumnElement[bool]]:
    """A filter on the column; none for None."""
    return [] if wanted is None else [column == wanted]


def _price_json(row: sa.RowMapping, tariff: Tariff, now: datetime) -> dict[str, Any]:
    version, why = stored_version(row)
    item: dict[str, Any] = {"id": str(row["id"])}
    if version is None:
        item |= {"provider": row["provider"], "model": row["model"], "stored": row["version"][:STORED_TEXT_MAX]}
    else:
        item |= version_to_json(version)
    in_force = None if version is None else tariff.book.in_force(version.provider, version.model, now)
    return item | {
        "inForce": in_force is not None and in_force.id == str(row["id"]),
        "unusable": why or None,
        "createdByUserId": row["created_by_user_id"],
        "createdAt": row["created_at"],
    }


async def list_rates(database: Database, *, currency: str | None, now: datetime) -> list[dict[str, Any]]:
    """Every rate by currency, the newest first; of each currency at most one is in force now."""
    async with database.reading() as connection:
        return await rates_listed(connection, currency=currency, now=now)


async def rates_listed(connection: AsyncConnection, *, currency: str | None, now: datetime) -> list[dict[str, Any]]:
    """As `list_rates`, on the caller's connection, whose transaction may have added one of them."""
    stored = await read_rates(connection)
    table = RateTable(entry.rate for entry in stored if entry.rate is not None)
    newest = {(entry.currency, entry.rate.valid_from): entry.id for entry in stored if entry.rate is not None}
    wanted = [entry for entry in stored if currency is None or entry.currency == currency]
    # Twice, because sorting keeps the order of equals: those that cannot be used stand last in their currency.
    wanted.sort(key=lambda entry: (entry.rate.valid_from if entry.rate else EARLIEST, entry.id), reverse=True)
    wanted.sort(key=lambda entry: (entry.currency, entry.rate is None))
    return [_rate_json(entry, table, newest, now) for entry in wanted]


def _rate_json(
    entry: StoredRate, table: RateTable, newest: Mapping[tuple[str, datetime], int], now: datetime
) -> dict[str, Any]:
    rate, (said_rate, said_from) = entry.rate, entry.said
    in_force = table.at(entry.currency, now)
    replaced_by = None if rate is None else newest[entry.currency, rate.valid_from]
    return {
        "id": str(entry.id),
        "currency": entry.currency,
        "rate": said_rate if rate is None else format(rate.rate, "f"),
        "validFrom": said_from if rate is None else rate.valid_from,
        "inForce": rate is not None and in_force is not None and in_force.id == rate.id,
        # The rate recorded later with the same time, which replaces this one.
        "replacedBy": None if replaced_by in (None, entry.id) else str(replaced_by),
        "unusable": entry.why,
        "createdBy": entry.created_by,
        "createdAt": entry.created_at,
    }


async def list_unpriced(
    database: Database, *, only: Mapping[str, str | None], cursor: str | None, limit: int
) -> dict[str, Any]:
    """Parked events by their identity, for the operator; a payment without a rate has neither provider nor model."""
    parked = unposted_events.c
    identity = (parked.mandate_no, parked.event_id, parked.own)
    filters = {"mandateId": mandates.c.id, "provider": parked.provider, "model": parked.model, "reason": parked.reason}
    wanted = [condition for name, column in filters.items() for condition in _equal(column, only.get(name))]
    read = (
        sa.select(
            *identity,
            parked.provider,
            parked.model,
            parked.currency,
            parked.reason,
            parked.detail,
            readable_time(parked.occurred_at),
            mandates.c.id.label("mandate_id"),
        )
        .select_from(unposted_events.join(mandates, mandates.c.no == parked.mandate_no))
        .where(waiting(unposted_events), sa.tuple_(*identity) > sa.tuple_(*_place(cursor)), *wanted)
        .order_by(*identity)
        .limit(limit + 1)
    )
    async with database.reading() as connection:
        rows = (await connection.execute(read)).mappings().all()
    items = [
        {
            "eventId": str(row["event_id"]),
            "mandateId": row["mandate_id"],
            "provider": row["provider"],
            "model": row["model"],
            "currency": row["currency"],
            "reason": row["reason"],
            "missing": row["detail"],
            "occurredAt": row["occurred_at"],
        }
        for row in rows[:limit]
    ]
    last = rows[limit - 1] if len(rows) > limit else None
    cursor = None if last is None else f"{last['mandate_no']}.{last['event_id']}.{int(last['own'])}"
    return {"items": items, "nextCursor": cursor}


async def stream_waiting(
    connection: AsyncConnection, models: Collection[tuple[str, str]]
) -> AsyncResult[str, str, str]:
    """Provider, model and event of what waits for a price or a rate of these models (provider and model), by model;
    in the caller's transaction, a part of them at a time."""
    parked = unposted_events.c
    columns = [sa.literal(list(names), sa.ARRAY(sa.Text)) for names in zip(*models, strict=True)]
    given = sa.func.unnest(*columns).table_valued("provider", "model").render_derived(name="given")
    read = (
        sa.select(parked.provider, parked.model, parked.event)
        .where(
            sa.tuple_(parked.provider, parked.model).in_(sa.select(given.c.provider, given.c.model)),
            parked.reason.in_(_WAITING),
        )
        .order_by(parked.provider, parked.model)
    )
    rows: AsyncResult[str, str, str] = await connection.stream(read, execution_options={"yield_per": _WAITING_ROWS})
    return rows


def _place(cursor: str | None) -> tuple[int, UUID, bool]:
    if cursor is None:
        return 0, UUID(int=0), False
    try:
        number, event_id, own = cursor.split(".")
        if not (number.isascii() and number.isdigit() and len(number) <= 9 and own in ("0", "1")):
            raise ValueError
        return int(number), UUID(event_id), own == "1"
    except ValueError:
        raise MalformedParameter("cursor", en="take it from an answer", de="bitte aus einer Antwort nehmen") from None
