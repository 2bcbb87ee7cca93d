"""Reads how much of a mandate's limits is used, for all questions that are read together: one statement, by a row of
each limit and a row a day, whatever the number of members, charges and holds."""

from collections.abc import Sequence
from datetime import date, datetime

import asyncpg

from services.billing.checks.limits import Limit, LimitUse, Spending, Subject, month_of
from services.billing.ledger.limit_sums import named_in

__all__ = ["read_limit_use"]

# What was spent and what is held are seen at one moment, so a hold that is captured meanwhile counts once. Holds that
# are due are left out, whether or not their rows say so yet.
_STATEMENT = f"""
WITH limited AS MATERIALIZED (
     SELECT l.mandate_no, l.kind, l.key, l.period, l.amount, l.held,
            CASE l.period WHEN 'day' THEN asked.today ELSE asked.month_begin END AS first,
            CASE l.period WHEN 'day' THEN asked.today ELSE asked.month_end END AS last
       FROM unnest($1::int[], $2::text[], $3::text[], $4::date[], $5::date[], $6::date[])
            AS asked (mandate_no, kind, key, today, month_begin, month_end)
       JOIN limits l ON l.mandate_no = asked.mandate_no AND l.kind = asked.kind AND l.key = asked.key),
 due AS MATERIALIZED (
     SELECT h.mandate_no, named.kind, named.key, sum(h.amount) AS amount
       FROM (SELECT DISTINCT mandate_no FROM limited WHERE held > 0) AS those
      CROSS JOIN LATERAL (SELECT * FROM holds h WHERE h.mandate_no = those.mandate_no AND h.state = 'OPEN'
                                                  AND h.expires_at <= $7 OFFSET 0) AS h
       {named_in("h", "h")}
      GROUP BY 1, 2, 3)
SELECT l.mandate_no, l.kind, l.key, l.period, l.amount,
       coalesce(spent.cost, 0) + l.held - coalesce(due.amount, 0) AS used
  FROM limited l
  LEFT JOIN due ON due.mandate_no = l.mandate_no AND due.kind = l.kind AND due.key = l.key
 CROSS JOIN LATERAL (
       SELECT sum(c.cost) AS cost FROM limit_costs c
        WHERE c.mandate_no = l.mandate_no AND c.kind = l.kind AND c.key = l.key
          AND c.day BETWEEN l.first AND l.last) AS spent
"""


async def read_limit_use(
    connection: asyncpg.Connection, asked: Sequence[Spending], *, now: datetime, timeout_s: float
) -> list[list[LimitUse]]:
    """The limits of each question, in the order of the questions and of what limits are about, days before months.
    Questions that have a limit in common have the same object."""
    days: dict[Subject, date] = {subject: spending.today for spending in asked for subject in spending.subjects()}
    months = [month_of(day) for day in days.values()]
    rows = await connection.fetch(
        _STATEMENT,
        *([*column] for column in zip(*days, strict=True)),
        list(days.values()),
        [first for first, _ in months],
        [last for _, last in months],
        now,
        timeout=timeout_s,
    )
    found: dict[tuple[int, str, str], list[LimitUse]] = {}
    for mandate_no, kind, key, period, amount, used in sorted(rows, key=lambda row: row["period"]):
        found.setdefault((mandate_no, kind, key), []).append(LimitUse(Limit(kind, key, period, amount), int(used)))
    return [[use for subject in each.subjects() for use in found.get(subject, ())] for each in asked]
