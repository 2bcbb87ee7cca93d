"""Sums of the rollups over all members, by dimension and day and by dimension and month, of mandates with many rollups:
a year's statistics read a row for each month and dimension, however many members a mandate has.

They are of the days up to `mandates.summed_until`, which a job moves on, under the lock of the mandate, when a day is
over (`statistics/keep_sums.py`). What is charged today adds nothing to them. What falls on a day that is summed, such
as late usage and what takes a charge back, is added by the statement that adds to the rollups. So with the rollups of
later days they are the whole at any moment, whatever clock decided which days are summed.
"""

from typing import Final

__all__ = ["ADDED", "SUMMED", "TOWARDS_SUMS"]

# Sums of the rollups `{0}`, in the columns of `rollup_sums`.
SUMMED: Final = (
    "SELECT rolled.mandate_no, named.period, named.first_day, rolled.dimension_no, sum(rolled.cost), sum(rolled.count)"
    " FROM {0} AS rolled CROSS JOIN LATERAL (VALUES ('day', rolled.day),"
    " ('month', date_trunc('month', rolled.day::timestamp)::date)) AS named (period, first_day)"
    "{1} GROUP BY 1, 2, 3, 4"
)
ADDED: Final = (
    " ON CONFLICT (mandate_no, period, first_day, dimension_no)"
    " DO UPDATE SET cost = s.cost + excluded.cost, count = s.count + excluded.count"
)

# What the given rollups add to the sums; the mandates that they are of are parameter 7. Mandates without sums are told
# apart by an index that has no entry of them.
TOWARDS_SUMS: Final = (
    "summed AS MATERIALIZED"
    " (SELECT no, summed_until FROM mandates WHERE no = ANY ($7) AND summed_until IS NOT NULL),"
    " towards_sums AS (INSERT INTO rollup_sums AS s (mandate_no, period, first_day, dimension_no, cost, count) "
    + SUMMED.format("given", " JOIN summed ON summed.no = rolled.mandate_no AND rolled.day <= summed.summed_until")
    + f"{ADDED})"
)
