"""The check of the sums of rollups: that they are those of the rollups of the days that are summed."""

from services.billing.ledger.rollup_sums import SUMMED

__all__ = ["CHECKS"]

_SUMMED = SUMMED.format("rollups", " JOIN mandates m ON m.no = rolled.mandate_no AND rolled.day <= m.summed_until")

CHECKS = {
    "sums": f"""
        WITH summed (mandate_no, period, first_day, dimension_no, cost, count) AS ({_SUMMED}),
             wrong AS (
            SELECT mandate_no, count(*) AS sums, min(period || ' of ' || first_day) AS first
              FROM summed s FULL JOIN rollup_sums k USING (mandate_no, period, first_day, dimension_no)
             WHERE (s.cost, s.count) IS DISTINCT FROM (k.cost, k.count::numeric) GROUP BY 1)
        SELECT coalesce(m.no, w.mandate_no) AS mandate_no, NULL::bigint AS account_no,
               w.mandate_no IS NOT NULL AS failing,
               w.sums || ' sums are not those of the rollups, the first is that of the ' || w.first AS detail
          FROM mandates m FULL JOIN wrong w ON w.mandate_no = m.no
         WHERE m.summed_until IS NOT NULL OR w.mandate_no IS NOT NULL
    """,
}
