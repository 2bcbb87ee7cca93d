"""Reads of the price book, the rate table, and the events that wait for either."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from services.billing.errors import MalformedParameter
from services.billing.pricing import EARLIEST, RateTable, version_to_json
from services.billing.pricing.rating import Tariff
from services.billing.pricing.repository import READABLE_TIME, StoredRate, read_rates, stored_version

__all__ = ["list_prices", "list_rates", "list_unpriced"]

# Of a version that cannot be used, so much is shown of what is stored in its place.
STORED_TEXT_MAX = 500


async def list_prices(
    connection: asyncpg.Connection,
    tariff: Tariff,
    *,
    provider: str | None,
    model: str | None,
    now: datetime,
    after: int,
    limit: int,
) -> dict[str, Any]:
    """Price versions in the order in which they were recorded, with what holds now and what cannot be used."""
    rows = await connection.fetch(
        f"SELECT id, provider, model, version, created_by_user_id, set_aside, {READABLE_TIME.format('created_at')}"
        " FROM prices WHERE id > $1 AND ($3::text IS NULL OR provider = $3) AND ($4::text IS NULL OR model = $4)"
        " ORDER BY id LIMIT $2",
        after,
        limit + 1,
        provider,
        model,
    )
    items = [_price_json(row, tariff, now) for row in rows[:limit]]
    return {"items": items, "nextCursor": str(rows[limit - 1]["id"]) if len(rows) > limit else None}


def _price_json(row: asyncpg.Record, tariff: Tariff, now: datetime) -> dict[str, Any]:
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


async def list_rates(connection: asyncpg.Connection, *, currency: str | None, now: datetime) -> list[dict[str, Any]]:
    """Every rate by currency, the newest first; of each currency at most one is in force now."""
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
        # The one recorded later from the same time on, which holds in its place.
        "replacedBy": None if replaced_by in (None, entry.id) else str(replaced_by),
        "unusable": entry.why,
        "createdBy": entry.created_by,
        "createdAt": entry.created_at,
    }


async def list_unpriced(
    connection: asyncpg.Connection, *, only: Mapping[str, str | None], cursor: str | None, limit: int
) -> dict[str, Any]:
    """Parked events by their identity, for the operator; a payment without a rate has neither provider nor model."""
    mandate_no, event_id, own = _place(cursor)
    rows = await connection.fetch(
        "SELECT e.mandate_no, e.event_id, e.own, e.provider, e.model, e.currency, e.reason, e.detail,"
        f" {READABLE_TIME.format('occurred_at')}, m.id AS mandate_id"
        " FROM uncharged_events e JOIN mandates m ON m.no = e.mandate_no"
        " WHERE e.reason <> 'FREE' AND (e.mandate_no, e.event_id, e.own) > ($1, $2, $8)"
        " AND ($4::text IS NULL OR m.id = $4) AND ($5::text IS NULL OR e.provider = $5)"
        " AND ($6::text IS NULL OR e.model = $6) AND ($7::text IS NULL OR e.reason = $7)"
        " ORDER BY e.mandate_no, e.event_id, e.own LIMIT $3",
        mandate_no,
        event_id,
        limit + 1,
        *(only.get(name) for name in ("mandateId", "provider", "model", "reason")),
        own,
    )
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
