"""The check of days: every row stands on the day of its mandate on which its time fell."""

from datetime import date, timedelta

import asyncpg
import orjson

from services.billing.ledger.calendars import Calendar
from services.billing.mandates.repository import calendar_of

__all__ = ["DAYS", "day_borders"]

# Every row's day is the one of its time in the calendar that its mandate had then. A reversal is on the day of its
# charge, which another check compares. Usage of a month that was over may be on the day on which it was recorded. What
# was recorded before it happened may have met a change of the time zone in between: its day is then at most one beside.
# The borders come from the code that charged, so that the database's own list of time zones, of another age, cannot
# contradict.
DAYS = """
    WITH calendars AS (SELECT * FROM unnest($1::int[], $2::int[]) AS given (mandate_no, calendar)),
         borders AS (SELECT calendar, day::date, begins::timestamptz, ends::timestamptz, month_begins::timestamptz
                       FROM unnest($3::int[], $4::text[], $5::text[], $6::text[], $7::text[])
                         AS b (calendar, day, begins, ends, month_begins)),
         moved AS (
        SELECT t.mandate_no, t.member_account_no AS no, count(*) AS rows, min(t.period_day) AS day
          FROM transactions t
          JOIN calendars c ON c.mandate_no = t.mandate_no
          LEFT JOIN borders b ON b.calendar = c.calendar AND b.day = t.period_day
         WHERE (t.occurred_at >= b.begins AND t.occurred_at < b.ends) IS NOT TRUE
           AND NOT (t.own AND t.contra_account = 'REVENUE' AND t.transaction_type <> 'DEBIT')
           AND (NOT t.own AND t.occurred_at < b.month_begins
                AND t.recorded_at >= b.begins AND t.recorded_at < b.ends) IS NOT TRUE
           AND NOT (t.occurred_at > t.recorded_at
                    AND t.period_day BETWEEN (t.occurred_at AT TIME ZONE 'UTC')::date - 1
                                         AND (t.occurred_at AT TIME ZONE 'UTC')::date + 1)
         GROUP BY 1, 2)
    SELECT a.mandate_no, a.no AS account_no, d.rows IS NOT NULL AS failing,
           d.rows || ' rows are on another day than that of their time, the first on ' || d.day AS detail
      FROM accounts a LEFT JOIN moved d ON d.mandate_no = a.mandate_no AND d.no = a.no
     WHERE a.type IN ('MANDATE', 'USER')
"""


async def day_borders(connection: asyncpg.Connection) -> tuple[list[object], ...]:
    """The arguments of `DAYS`: the calendar of each mandate, by number, and for each calendar and day that rows are on,
    where the day begins and ends, and where its month begins. Most mandates share a calendar, so these are few."""
    calendars: dict[Calendar, int] = {}
    mandates, numbers = [], []
    for no, zone, past in await connection.fetch("SELECT no, time_zone, past_time_zones::text FROM mandates"):
        mandates.append(no)
        numbers.append(calendars.setdefault(calendar_of(no, zone, orjson.loads(past)), len(calendars)))
    days = await connection.fetch(
        "SELECT DISTINCT period_day FROM transactions WHERE period_day BETWEEN '0001-01-01' AND '9999-12-31'"
    )
    borders = [
        (number, row["period_day"].isoformat(), *_begin_and_end(calendar, row["period_day"]))
        for calendar, number in calendars.items()
        for row in days
    ]
    return mandates, numbers, *([border[part] for border in borders] for part in range(5))


def _begin_and_end(calendar: Calendar, day: date) -> tuple[str, str, str]:
    """As text, because the driver takes the first and the last time that Python can say for infinite ones."""
    ends = "infinity" if day == date.max else calendar.begin(day + timedelta(days=1)).isoformat()
    return _begin(calendar, day), ends, _begin(calendar, day.replace(day=1))


def _begin(calendar: Calendar, day: date) -> str:
    return "-infinity" if day == date.min else calendar.begin(day).isoformat()
