"""Keeping what feature instances report to have in use.

A report that says what the newest one before it said changes nothing, and no row is written for it but the claim of its
event. So what is kept of an instance are the reports with which its use changed. Of those that were left out it is
known that they said what the kept one before them says: where another report comes between, or that one is cancelled,
the first of them is kept too, in its place.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from operator import attrgetter
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.storage.repository import (
    StorageReport,
    insert_reports,
    read_cancelled,
    read_kept,
    read_left_out,
    read_named,
)

__all__ = ["keep_reports", "resume_reports"]

_place = attrgetter("place")


async def keep_reports(connection: AsyncConnection, reports: Sequence[StorageReport]) -> None:
    """Keeps those of new reports with which something changes, in the caller's transaction, which has locked the
    mandates and claimed their events. The number of statements does not depend on that of reports."""
    if not reports:
        return
    cancelled = await read_cancelled(connection, reports)
    told = sorted((each for each in reports if each.key not in cancelled), key=_place)
    known = await read_kept(connection, told)
    left_out = await read_left_out(connection, told, new=True)
    lines = {instance: list(line) for instance, line in known.items()}
    made = []
    for report in told:
        line = lines.setdefault(report.instance, [])
        at = bisect_left(line, report.place, key=_place)
        if at and line[at - 1].bytes_in_use == report.bytes_in_use:
            continue
        line.insert(at, report)
        made.append(report)
        following = left_out.get(report.key)
        if following is not None and all(each.key != following.key for each in line):
            # It said what was kept before both of them came.
            before = known[report.instance]
            said = before[bisect_left(before, report.place, key=_place) - 1].bytes_in_use
            following = following._replace(bytes_in_use=said)
            line.insert(bisect_left(line, following.place, key=_place), following)
            made.append(following)
    await insert_reports(connection, made)


async def resume_reports(connection: AsyncConnection, cancelled: Collection[tuple[int, UUID]]) -> None:
    """Keeps, for each report that is cancelled, given as (mandate, event), the first that said the same after it, in
    the caller's transaction, which has recorded the cancellations."""
    named = await read_named(connection, cancelled)
    left_out = await read_left_out(connection, named, new=False)
    resumed = [
        left_out[report.key]._replace(bytes_in_use=report.bytes_in_use) for report in named if report.key in left_out
    ]
    await insert_reports(connection, resumed)
