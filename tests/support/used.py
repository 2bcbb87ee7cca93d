"""Mandates in a time zone that has held for long, and usage that they are charged at its cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.mandates.change_settings import change_settings
from services.billing.statistics.keep_sums import SLICE, KeepSums
from services.billing.tables import mandates
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.support.callers import system_admin
from tests.support.charging import charging, received
from tests.support.directory import directory_events
from tests.support.events import RawRecord, new_mandate

__all__ = ["LATER", "MEMBERS", "made", "set_up", "sum_all", "use"]

# Before every time of the tests of usage, so that what is set then holds at all of them.
LONG_AGO = datetime(2020, 1, 15, 12, tzinfo=UTC)
# After all of them.
LATER = datetime(2026, 11, 20, 12, tzinfo=UTC)
MEMBERS = {"admin-1": ["admin"], "user-1": ["member"], "user-2": ["member"]}


async def made(database: Database, zone: str = "Europe/Zurich", **named: Any) -> str:
    """A mandate in a zone, with an administrator and two members."""
    mandate = new_mandate()
    await ApplyDirectory(database, clock=system_clock)(directory_events(mandate, MEMBERS, **named), [])
    await set_up(database, mandate, timeZone=zone)
    return mandate


async def set_up(database: Database, mandate: str, **settings: Any) -> None:
    """Settings that have held for long."""
    await change_settings(
        database, mandate, settings, caller=system_admin(), clock=lambda: LONG_AGO, amount_max=Decimal(1)
    )


async def use(database: Database, records: Sequence[RawRecord], *, now: datetime = LATER) -> None:
    """Charges records as they come, at their cost."""
    handler = charging(database, clock=lambda: now, default_markup=Decimal(0))
    for at in range(0, len(records), 200):
        await handler(received(records[at : at + 200], now=now), [])


async def sum_all(database: Database, now: datetime, *, many: int = 1) -> None:
    """Has rollups of days that are over at that time summed, of every mandate that has so many."""
    keep = KeepSums(database, clock=lambda: now, many=many)
    async with database.reading() as connection:
        count = await connection.scalar(sa.select(sa.func.count()).select_from(mandates))
    for _ in range(int(count or 0) // SLICE + 1):
        await keep()
