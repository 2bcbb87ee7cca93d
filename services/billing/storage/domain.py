"""What storage costs: the months of a period, and the price of the peak above what the plan includes. Pure."""

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from services.billing.mandates.domain import share_equally
from services.billing.money import EXACT, MICRO_PLACES, from_micro

__all__ = ["bytes_above", "gigabytes", "months_of", "share_price", "storage_price"]

BYTES_OF_A_MB: Final = 1_000_000
GB_PLACES: Final = 9
MONTHS_PLACES: Final = 6

_TICK = timedelta(microseconds=1)


def months_of(start: datetime, end: datetime) -> Decimal:
    """How many months a period has. That of a plan has whole ones; one that was cut short, or is counted in days, has a
    part of the month that it would have become, to a millionth."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if end <= start:
        return Decimal(0)
    months = _months_apart(start, end)
    if _is_whole(start, end):
        return Decimal(months)
    if _later(start, months) > end:
        months -= 1
    begun, following = _later(start, months), _later(start, months + 1)
    part = (end - begun) // _TICK * 10**MONTHS_PLACES // ((following - begun) // _TICK)
    return EXACT.add(months, Decimal(part).scaleb(-MONTHS_PLACES, EXACT))


def _months_apart(start: datetime, end: datetime) -> int:
    return (end.year - start.year) * 12 + end.month - start.month


def _is_whole(start: datetime, end: datetime) -> bool:
    """Whether a period is of whole months. Those that begin on a day that not every month has, as the 31st, begin on
    the last one there, so a month can go from 28 February to 31 March."""
    if start.time() != end.time() or _months_apart(start, end) < 1:
        return False
    return (
        start.day == end.day
        or (start.day < end.day and start.day == _last_day(start))
        or (end.day < start.day and end.day == _last_day(end))
    )


def _last_day(at: datetime) -> int:
    return monthrange(at.year, at.month)[1]


def _later(start: datetime, months: int) -> datetime:
    """So many months later, on the last day of a month that has no such day."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    return start.replace(year=year, month=month + 1, day=min(start.day, monthrange(year, month + 1)[1]))


def bytes_above(peak: int, included_mb: int | None) -> int:
    """The bytes that are charged: those above what the plan includes; where that has no limit, none."""
    return 0 if included_mb is None else max(0, peak - included_mb * BYTES_OF_A_MB)


def gigabytes(count: int) -> Decimal:
    """So many bytes in GB, exactly."""
    return Decimal(count).scaleb(-GB_PLACES, EXACT)


def storage_price(charged_bytes: int, price_per_gb_month: Decimal, months: Decimal) -> Decimal:
    """The exact price (CHF) of so many bytes over so many months."""
    return EXACT.multiply(EXACT.multiply(gigabytes(charged_bytes), price_per_gb_month), months)


def share_price(price: Decimal, count: int) -> list[Decimal]:
    """Equal parts of an exact price, in whole micro-CHF; what is left is the first one's."""
    whole = int(price.scaleb(MICRO_PLACES, EXACT))
    parts = [from_micro(part) for part in share_equally(whole, count)]
    parts[0] = EXACT.add(parts[0], EXACT.subtract(price, from_micro(whole)))
    return parts
