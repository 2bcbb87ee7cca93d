"""The check of sealed days: the rows of each are those that were sealed, and each seal follows from the one before."""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import asyncpg

from services.billing.ledger.day_digests import FIRST, FORMS, DayDigest
from services.billing.ledger.sealed_days import Seal, read_seals, stream_rows

__all__ = ["SealedDays", "check_sealed_days"]


class SealedDays(NamedTuple):
    """How many sealed days there are, and what is wrong with which days, the first of them first."""

    looked_at: int
    failing: list[str]


class _Found(NamedTuple):
    """What is there of a day."""

    rows: int
    digest: bytes | None


async def check_sealed_days(connection: asyncpg.Connection) -> SealedDays:
    """Computes the whole chain again, in the caller's snapshot."""
    seals = await read_seals(connection)
    if not seals:
        return SealedDays(0, [])
    found, unsealed = await _read(connection, seals)
    faults: list[tuple[date, str]] = []
    previous = FIRST
    for seal in seals:
        fault = _fault(seal, found.get(seal.day, _Found(0, None)), previous)
        if fault is not None:
            faults.append((seal.day, fault))
        previous = seal.digest
    # By their text, which sorts as days do; those of other times that a changed row may have come last.
    told = sorted([(day.isoformat(), fault) for day, fault in faults] + unsealed)
    return SealedDays(len(seals), [f"day {day} {fault}" for day, fault in told])


async def _read(
    connection: asyncpg.Connection, seals: Sequence[Seal]
) -> tuple[dict[date, _Found], list[tuple[str, str]]]:
    """The digest of each sealed day as its rows are now, and days that have rows and no seal."""
    by_day = {seal.day.isoformat(): seal for seal in seals}
    found: dict[date, _Found] = {}
    unsealed: dict[str, int] = {}
    running: tuple[Seal, DayDigest] | None = None
    async for day, digest in stream_rows(connection, seals[-1].day):
        seal = by_day.get(day)
        if seal is None or digest is None:
            unsealed[day] = unsealed.get(day, 0) + (seal is None)
            continue
        if running is None or running[0].day != seal.day:
            _end(running, found)
            running = seal, DayDigest(seal.form, seal.day, seal.previous)
        running[1].add(digest)
    _end(running, found)
    return found, [(day, f"has {rows} rows and is not sealed") for day, rows in unsealed.items() if rows]


def _end(running: tuple[Seal, DayDigest] | None, found: dict[date, _Found]) -> None:
    if running is not None:
        seal, made = running
        found[seal.day] = _Found(made.rows, made.value())


def _fault(seal: Seal, found: _Found, previous: bytes) -> str | None:
    """What is wrong with a day; None for what is as it was sealed."""
    if seal.form not in FORMS:
        return f"is sealed in form {seal.form}, which is not known"
    if seal.previous != previous:
        return "does not follow from the digest of the day that was sealed before"
    digest = DayDigest(seal.form, seal.day, seal.previous).value() if found.digest is None else found.digest
    if found.rows != seal.rows:
        return f"was sealed with {seal.rows} rows and has {found.rows}"
    return None if digest == seal.digest else f"has other rows than the {seal.rows} that were sealed"
