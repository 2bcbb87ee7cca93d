"""The check of the descriptions of charges: that those of rows are kept, by which lists know of them, as an empty one
where a row has none."""

__all__ = ["CHECKS"]

CHECKS = {
    "descriptions": """
        WITH said AS (
            SELECT DISTINCT mandate_no, dimension_no, coalesce(description, '') AS description FROM transactions
             WHERE contra_account = 'REVENUE' AND transaction_type = 'DEBIT' AND reference_type = 'WORKFLOW'),
             missing AS (
            SELECT s.mandate_no, count(*) AS missing, min(s.description) AS first
              FROM said s
             WHERE NOT EXISTS (SELECT FROM usage_descriptions d
                                WHERE d.mandate_no = s.mandate_no AND d.dimension_no = s.dimension_no
                                  AND (d.description = s.description OR d.description IS NULL))
             GROUP BY s.mandate_no)
        SELECT coalesce(m.no, w.mandate_no) AS mandate_no, NULL::bigint AS account_no, w.missing IS NOT NULL AS failing,
               w.missing || ' descriptions of charges are not kept, the first is ' || quote_literal(w.first) AS detail
          FROM mandates m FULL JOIN missing w ON w.mandate_no = m.no
    """,
}
