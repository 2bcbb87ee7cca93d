"""The check of storage: what each closed period was charged, against its peak and the terms of its plan."""

__all__ = ["CHECKS"]

CHECKS = {
    # The exact prices of the rows of each closed period add up to that of its peak above what the plan includes, at the
    # plan's price for its months; a period that costs nothing has none, and no such row is of another period. An exact
    # price is what was posted and what it left of the remainder, which another check proves.
    "storage": """
        WITH closed AS (
            SELECT p.mandate_no, p.subscription_id::text AS reference_id,
                   p.period_end - interval '1 microsecond' AS occurred_at, p.period_start,
                   greatest(0, p.peak_bytes - p.included_mb * 1000000::numeric) * 0.000000001
                     * coalesce(p.price_per_gb_month, 0) * p.months AS price
              FROM storage_periods p WHERE p.closed_at IS NOT NULL),
             rows AS (
            SELECT t.mandate_no, t.reference_id, t.occurred_at, count(*) AS rows,
                   bool_and(t.reference_type = 'STORAGE') AS of_storage,
                   sum(t.amount * 0.000001
                       + CASE WHEN pg_input_is_valid(split_part(t.derivation, '"', 8), 'numeric(200, 100)')
                              THEN split_part(t.derivation, '"', 8)::numeric END
                       - CASE WHEN pg_input_is_valid(split_part(t.derivation, '"', 4), 'numeric(200, 100)')
                              THEN split_part(t.derivation, '"', 4)::numeric END) AS price
              FROM transactions t
             WHERE t.own AND t.contra_account = 'REVENUE' AND t.transaction_type = 'DEBIT' GROUP BY 1, 2, 3)
        SELECT coalesce(c.mandate_no, r.mandate_no) AS mandate_no, NULL::bigint AS account_no,
               (c.reference_id IS NOT NULL AND coalesce(r.of_storage, true)
                AND coalesce(c.price, 0) = CASE WHEN r.rows IS NULL THEN 0 ELSE r.price END) IS NOT TRUE AS failing,
               'storage of ' || coalesce(c.reference_id, r.reference_id, 'nothing') || ' until '
               || coalesce(c.occurred_at, r.occurred_at) || ': '
               || CASE WHEN c.reference_id IS NULL THEN 'charged, and no period'
                       ELSE 'its price is ' || trim_scale(coalesce(c.price, 0)) || ', charged was '
                            || coalesce(trim_scale(r.price)::text, 'nothing') END AS detail
          FROM closed c FULL JOIN rows r
            ON r.mandate_no = c.mandate_no AND r.reference_id = c.reference_id AND r.occurred_at = c.occurred_at
    """,
}
