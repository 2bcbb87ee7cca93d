"""The check of corrections: each that was recorded has its row, which mirrors the charge whose price it corrects."""

from services.billing.audit.reversals import CHARGE_ID

__all__ = ["CHECKS"]

CHECKS = {
    # Corrections of a charge are numbered without gaps. Each has one row, at the account, member, day and dimension of
    # its charge, that names it; no two have the same. What they come to is the check of prices.
    "corrections": f"""
        WITH numbered AS (
            SELECT k.*, row_number() OVER w AS counted, count(*) OVER (PARTITION BY mandate_no, correction_id) AS rows
              FROM price_corrections k WINDOW w AS (PARTITION BY mandate_no, event_id ORDER BY number)),
             wrong AS (
            SELECT k.mandate_no, coalesce(c.posted_account_no, t.posted_account_no) AS no,
                   'correction ' || k.number || ' of event ' || k.event_id ||
                   CASE WHEN c.event_id IS NULL THEN ' has no charge'
                        WHEN t.event_id IS NULL THEN ' has no row'
                        WHEN k.counted <> k.number THEN ' is number ' || k.counted
                        WHEN k.rows > 1 THEN ' has the row of another'
                        ELSE ' is of another account, day, dimension or kind' END AS what
              FROM numbered k
              LEFT JOIN transactions c ON c.mandate_no = k.mandate_no AND c.event_id = k.event_id AND NOT c.own
              LEFT JOIN transactions t ON t.mandate_no = k.mandate_no AND t.event_id = k.correction_id AND t.own
             WHERE (k.counted, k.rows, t.reference_id, t.posted_account_no, t.member_account_no, t.dimension_no,
                    t.period_day, t.occurred_at, t.reference_type, t.transaction_type, t.contra_account)
                   IS DISTINCT FROM
                   (k.number::bigint, 1::bigint, {CHARGE_ID}, c.posted_account_no, c.member_account_no, c.dimension_no,
                    c.period_day, c.occurred_at, c.reference_type, 'ADJUSTMENT', 'REVENUE')
                OR c.event_id IS NULL),
             counted AS (
            SELECT mandate_no, no, count(*) AS rows, min(what) AS what FROM wrong GROUP BY 1, 2)
        SELECT coalesce(a.mandate_no, w.mandate_no) AS mandate_no, coalesce(a.no, w.no) AS account_no,
               w.rows IS NOT NULL AS failing,
               w.what || CASE WHEN w.rows > 1 THEN ', and ' || w.rows - 1 || ' more' ELSE '' END AS detail
          FROM accounts a FULL JOIN counted w ON w.mandate_no = a.mandate_no AND w.no = a.no
         WHERE a.type IN ('MANDATE', 'USER', 'INTERNAL') OR w.rows IS NOT NULL
    """,
}
