"""Sums of the rollups over all members, by dimension and day and by dimension and month, of mandates with many rollups:
a year's statistics read as many rows as the mandate has dimensions in its months, however many members it has.

They are kept by the statement that adds to the rollups, under the lock of the mandate, so they are the rollups' at any
moment; late usage and what takes a charge back goes to its own day there too. A batch adds to few of them, because they
are coarser than the rollups. Mandates without them are told apart by an index that has no entry of them.
"""

from typing import Final

__all__ = ["SUMMED", "TOWARDS_SUMS"]

# Sums of rollups of one mandate, `{0}`, in the columns of `rollup_sums`.
SUMMED: Final = (
    "SELECT rolled.mandate_no, named.period, named.first_day, rolled.dimension_no, sum(rolled.cost), sum(rolled.count)"
    " FROM {0} AS rolled CROSS JOIN LATERAL (VALUES ('day', rolled.day),"
    " ('month', date_trunc('month', rolled.day::timestamp)::date)) AS named (period, first_day)"
    "{1} GROUP BY 1, 2, 3, 4"
)

# What the given rollups add to the sums; the mandates that they are of are parameter 7.
TOWARDS_SUMS: Final = (
    "summed AS MATERIALIZED (SELECT no FROM mandates WHERE no = ANY ($7) AND sums_kept),"
    " towards_sums AS (INSERT INTO rollup_sums AS s (mandate_no, period, first_day, dimension_no, cost, count) "
    + SUMMED.format("given", " JOIN summed ON summed.no = rolled.mandate_no")
    + " ON CONFLICT (mandate_no, period, first_day, dimension_no)"
    " DO UPDATE SET cost = s.cost + excluded.cost, count = s.count + excluded.count)"
)
