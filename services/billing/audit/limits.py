"""The check of limits: that what counts towards them is what the rollups and the open holds say."""

__all__ = ["CHECKS"]

CHECKS = {
    # From the first day on that is kept; a mandate without limits keeps nothing.
    "limits": """
        WITH limited AS (SELECT DISTINCT mandate_no, kind, key FROM limits),
             spent AS (
            SELECT r.mandate_no, named.kind, named.key, r.day, sum(r.cost) AS cost
              FROM mandates m
              JOIN rollups r ON r.mandate_no = m.no AND r.day >= m.limits_since
              JOIN accounts a ON a.mandate_no = r.mandate_no AND a.no = r.member_account_no
              JOIN dimensions d ON d.mandate_no = r.mandate_no AND d.no = r.dimension_no
             CROSS JOIN LATERAL (VALUES ('member', a.user_id), ('feature', d.feature_instance_id),
                                        ('provider', d.provider), ('model', d.model)) AS named (kind, key)
              JOIN limited l ON l.mandate_no = r.mandate_no AND l.kind = named.kind AND l.key = named.key
             GROUP BY 1, 2, 3, 4),
             wrong AS (
            SELECT mandate_no, count(*) AS costs, min(day || ' of ' || kind || ' ' || key || ' is '
                   || coalesce(c.cost::text, 'missing') || ', the rollups say ' || coalesce(s.cost, 0)) AS first
              FROM spent s FULL JOIN limit_costs c USING (mandate_no, kind, key, day)
              LEFT JOIN limited l USING (mandate_no, kind, key)
             WHERE coalesce(s.cost, 0) <> coalesce(c.cost, 0) OR l.mandate_no IS NULL
             GROUP BY 1),
             reserved AS (
            SELECT h.mandate_no, named.kind, named.key, sum(h.amount) AS amount
              FROM holds h JOIN accounts a ON a.mandate_no = h.mandate_no AND a.no = h.member_account_no
             CROSS JOIN LATERAL (VALUES ('member', a.user_id), ('feature', h.feature_instance_id),
                                        ('provider', h.provider), ('model', h.model)) AS named (kind, key)
             WHERE h.state = 'OPEN' GROUP BY 1, 2, 3),
             known AS (
            SELECT l.mandate_no, min('held for ' || kind || ' ' || key || ' is ' || l.held || ', open holds '
                   || coalesce(r.amount, 0)) FILTER (WHERE l.held <> coalesce(r.amount, 0)) AS first
              FROM limits l LEFT JOIN reserved r USING (mandate_no, kind, key) GROUP BY 1)
        SELECT coalesce(m.no, w.mandate_no, k.mandate_no) AS mandate_no, NULL::bigint AS account_no,
               w.mandate_no IS NOT NULL OR k.first IS NOT NULL
               OR (m.limits_since IS NULL) <> (k.mandate_no IS NULL) AS failing,
               coalesce(w.costs || ' costs are wrong: ' || w.first, k.first, 'its limits are not marked as such')
               AS detail
          FROM mandates m
          FULL JOIN wrong w ON w.mandate_no = m.no
          FULL JOIN known k ON k.mandate_no = m.no
         WHERE m.limits_since IS NOT NULL OR w.mandate_no IS NOT NULL OR k.mandate_no IS NOT NULL
    """,
}
