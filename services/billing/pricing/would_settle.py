"""Which parked events a price import would settle: they are priced for real, by the book as it would be."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts import decode_structured
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.money import Markup
from services.billing.pricing import LATEST, PriceVersion
from services.billing.pricing.queries import stream_waiting
from services.billing.pricing.rating import Parked, Tariff, billable, rate_usage

__all__ = ["would_settle"]

_NO_MARKUP = Markup.of(Decimal(0))


async def would_settle(
    connection: AsyncConnection, tariff: Tariff, added: Sequence[PriceVersion]
) -> list[dict[str, Any]]:
    """By model: the parked events that would be settled, and those that would wait on; in the caller's transaction."""
    if not added:
        return []
    after = Tariff(tariff.revision, tariff.book.with_versions(added), tariff.rates)
    counts: dict[tuple[str, str], list[int]] = {}
    waiting = await stream_waiting(connection, [(version.provider, version.model) for version in added])
    async for provider, model, event in waiting:
        count = counts.setdefault((provider, model), [0, 0])
        count[0 if _settles(event, after) else 1] += 1
    return [
        {"provider": provider, "model": model, "events": settled, "stillParked": parked}
        for (provider, model), (settled, parked) in counts.items()
    ]


def _settles(text: str, tariff: Tariff) -> bool:
    try:
        # Its time was not in the future when it was parked, and is not judged again.
        event = decode_structured(orjson.loads(text), now=LATEST)
        data = event.data
        if not isinstance(data, UsageRecorded):
            return False
        tokens = data.tokens.counts() if data.tokens is not None else {}
        return not isinstance(rate_usage(billable(data, tokens), event.time, tariff, _NO_MARKUP), Parked)
    except (ValueError, ArithmeticError):
        # What cannot be read or priced stays where it is, and is no fault of the file.
        return False
