"""The check of cancellations: what was cancelled is taken back once, by a row that mirrors its charge."""

__all__ = ["CHARGE_ID", "CHECKS"]

# The public id of a charge, as `transaction_id` makes it from its account and its number in that account's chain.
CHARGE_ID = """(lpad(to_hex(c.posted_account_no >> 12), 12, '0') || '8'
                || lpad(to_hex(c.posted_account_no & 4095), 3, '0') || to_hex(c.seq | (1::bigint << 63)))::uuid::text"""

CHECKS = {
    # Each charge of cancelled usage has one row that takes exactly its amount, corrections of its price included, back
    # to its account, on its day and in its dimension, and names it; there is no other such row. Cancelled usage does
    # not wait for a price.
    "reversals": f"""
        WITH corrections AS (
            SELECT k.mandate_no, k.event_id, k.correction_id, t.amount
              FROM price_corrections k
              JOIN transactions t ON t.mandate_no = k.mandate_no AND t.event_id = k.correction_id AND t.own),
             corrected AS (
            SELECT mandate_no, event_id, sum(amount) AS amount FROM corrections GROUP BY 1, 2),
             reversed AS (
            SELECT t.mandate_no, t.reference_id, count(*) AS rows, min(t.posted_account_no) AS no,
                   min(t.amount) AS amount, min(t.member_account_no) AS member_account_no,
                   min(t.dimension_no) AS dimension_no, min(t.period_day) AS day,
                   min(t.reference_type) AS reference_type, min(t.transaction_type) AS transaction_type
              FROM transactions t
             WHERE t.own AND t.contra_account = 'REVENUE' AND t.transaction_type <> 'DEBIT'
               AND (t.mandate_no, t.event_id) NOT IN (SELECT mandate_no, correction_id FROM corrections) GROUP BY 1, 2),
             charged AS (
            SELECT c.mandate_no, {CHARGE_ID} AS id, c.posted_account_no AS no,
                   c.amount - coalesce(d.amount, 0) AS amount, c.member_account_no,
                   c.dimension_no, c.period_day AS day, c.reference_type
              FROM cancellations k
              JOIN transactions c ON c.mandate_no = k.mandate_no AND c.event_id = k.event_id AND NOT c.own
              LEFT JOIN corrected d ON d.mandate_no = k.mandate_no AND d.event_id = k.event_id),
             wrong AS (
            SELECT coalesce(r.mandate_no, c.mandate_no) AS mandate_no, coalesce(c.no, r.no) AS no,
                   CASE WHEN r.rows IS NULL THEN 'charge ' || c.id || ' is cancelled and not taken back'
                        WHEN c.id IS NULL THEN 'what takes back ' || coalesce(r.reference_id, 'nothing')
                                               || ' has no cancelled charge'
                        WHEN r.rows > 1 THEN 'charge ' || c.id || ' is taken back ' || r.rows || ' times'
                        WHEN r.amount <> c.amount THEN 'charge ' || c.id || ' is ' || c.amount || ', taken back is '
                                                       || r.amount
                        ELSE 'what takes back ' || c.id || ' is of another account, day, dimension or kind' END AS what
              FROM reversed r FULL JOIN charged c ON c.mandate_no = r.mandate_no AND c.id = r.reference_id
             WHERE (r.rows, r.amount, r.no, r.member_account_no, r.dimension_no, r.day, r.reference_type,
                    r.transaction_type)
                   IS DISTINCT FROM (1, c.amount, c.no, c.member_account_no, c.dimension_no, c.day, c.reference_type,
                                     'ADJUSTMENT')
             UNION ALL
            SELECT k.mandate_no, NULL, 'event ' || k.event_id || ' is cancelled and waits for a price'
              FROM cancellations k
              JOIN unposted_events e ON e.mandate_no = k.mandate_no AND e.event_id = k.event_id AND NOT e.own
               AND e.reason NOT IN ('FREE', 'CANCELLED', 'CANCELLATION')),
             counted AS (
            SELECT mandate_no, no, count(*) AS rows, min(what) AS what FROM wrong GROUP BY 1, 2)
        SELECT coalesce(a.mandate_no, w.mandate_no) AS mandate_no, coalesce(a.no, w.no) AS account_no,
               w.rows IS NOT NULL AS failing,
               w.what || CASE WHEN w.rows > 1 THEN ', and ' || w.rows - 1 || ' more' ELSE '' END AS detail
          FROM accounts a FULL JOIN counted w ON w.mandate_no = a.mandate_no AND w.no = a.no
         WHERE a.type IN ('MANDATE', 'USER', 'INTERNAL') OR w.rows IS NOT NULL
    """,
}
