"""Whether the usage of a mandate has been away for longer than is usual at this time of the week. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

__all__ = ["FORGOTTEN", "Moment", "is_silent", "moments_before", "usual_gap"]

# How far back it is looked what is usual, and how many moments, three a day, are needed to say so.
HISTORY_DAYS: Final = 28
MOMENTS_MIN: Final = 15
# How many times the usual gap is too long.
TIMES: Final = 2
# After this time without usage nobody expects it any more.
FORGOTTEN: Final = timedelta(days=28)
_SATURDAY: Final = 5


class Moment(NamedTuple):
    """A time in the past, and when the last usage before it had been."""

    at: datetime
    last_usage_at: datetime | None


def moments_before(last_usage_at: datetime, now: datetime, zone: str, *, minimum: timedelta) -> list[datetime]:
    """This time of day and the time just before it, by the clock of the zone, on days of the same kind (of the working
    week, or of the weekend) in the weeks before the last usage.

    Offices close in the evening and on Saturday, so what is usual is asked for this time of the day and week; and also
    for up to `minimum` before it, because who begins at eight may begin a little later today.
    """
    local = now.astimezone(ZoneInfo(zone))
    since = (now - last_usage_at).days
    days = [local - timedelta(days=since + number) for number in range(HISTORY_DAYS + 1)]
    at_weekend = local.weekday() >= _SATURDAY
    of_kind = [day.astimezone(UTC) for day in days if (day.weekday() >= _SATURDAY) == at_weekend]
    moments = (moment - before for moment in of_kind for before in (timedelta(), minimum / 2, minimum))
    return [moment for moment in moments if moment <= last_usage_at]


def usual_gap(moments: Sequence[Moment]) -> timedelta | None:
    """The longest time that usage had been away at those moments; None where too few of them know."""
    gaps = [moment.at - moment.last_usage_at for moment in moments if moment.last_usage_at is not None]
    return max(gaps) if len(gaps) >= MOMENTS_MIN else None


def is_silent(last_usage_at: datetime, now: datetime, usual: timedelta, *, minimum: timedelta) -> bool:
    """Whether usage has been away for much longer than usual. `minimum` is a time that is never too long."""
    away = now - last_usage_at
    return TIMES * usual + minimum < away <= FORGOTTEN
