"""The check of invoices: what they ask for is what the ledger has of CREDIT_POSTPAY, once, and they add up."""

__all__ = ["CHECKS"]

# The number of the charge that a row corrects, out of the id that `transaction_id` made of it.
CHARGE_SEQ = """CASE WHEN t.transaction_type = 'ADJUSTMENT' AND pg_input_is_valid(t.reference_id, 'uuid')
                        THEN ('x' || right(replace(t.reference_id, '-', ''), 16))::bit(64)::bigint
                             & ((1::bigint << 62) - 1) END"""

CHECKS = {
    # Each row of a pool that is from CREDIT_POSTPAY, or corrects one that is, is on the first invoice that reaches it
    # and its day. So the lines of each invoice add up, by month and what it was for, to exactly those rows. Lines add
    # up to net amount and total, and with what rounding left over before to what it leaves over. The numbers of each
    # year have no gap; at its turn one of the old year may come after one of the new year, so it is the rows that say
    # which invoice is earlier. What was paid of an invoice was credited.
    "invoices": f"""
        WITH usage AS (
            SELECT t.mandate_no, t.seq, t.period_day, t.dimension_no, t.transaction_type,
                   CASE t.transaction_type WHEN 'DEBIT' THEN t.amount ELSE -t.amount END AS cost, {CHARGE_SEQ} AS charge
              FROM transactions t
              JOIN accounts a ON a.mandate_no = t.mandate_no AND a.no = t.posted_account_no AND a.type = 'MANDATE'
             WHERE t.contra_account = 'REVENUE' AND t.mandate_no IN (SELECT mandate_no FROM postpay_spans)),
             asked AS (
            SELECT t.mandate_no, t.seq, t.period_day, t.dimension_no, t.cost
              FROM usage t
              JOIN postpay_spans s ON s.mandate_no = t.mandate_no AND t.seq > s.from_seq
               AND t.seq <= coalesce(s.to_seq, t.seq)
             WHERE t.transaction_type = 'DEBIT'
                OR EXISTS (SELECT FROM postpay_spans o WHERE o.mandate_no = t.mandate_no AND t.charge > o.from_seq
                              AND t.charge <= coalesce(o.to_seq, t.charge))),
             ordered AS (
            SELECT i.*, lag(up_to_seq) OVER w AS had_seq, lag(through_day) OVER w AS had_day
              FROM invoices i WINDOW w AS (PARTITION BY mandate_no ORDER BY up_to_seq, series_year, series_no)),
             expected AS (
            SELECT i.id, date_trunc('month', t.period_day::timestamp) AS month, d.provider, d.model, d.feature_code,
                   d.feature_instance_id, sum(t.cost) AS cost
              FROM asked t
              JOIN ordered i ON i.mandate_no = t.mandate_no AND t.seq <= i.up_to_seq AND t.period_day <= i.through_day
               AND (t.seq <= i.had_seq AND t.period_day <= i.had_day) IS NOT TRUE
              JOIN dimensions d ON d.mandate_no = t.mandate_no AND d.no = t.dimension_no
              LEFT JOIN postpay_spans s ON s.mandate_no = i.mandate_no AND i.up_to_seq > s.from_seq
               AND i.up_to_seq <= coalesce(s.to_seq, i.up_to_seq)
             WHERE t.seq > s.from_seq
             GROUP BY 1, 2, 3, 4, 5, 6),
             stated AS (
            SELECT l.invoice_id AS id, date_trunc('month', l.first_day::timestamp) AS month, l.provider, l.model,
                   l.feature_code, l.feature_instance_id, sum(l.cost) AS cost
              FROM invoice_lines l WHERE l.kind IN ('USAGE', 'STORAGE', 'CORRECTION') GROUP BY 1, 2, 3, 4, 5, 6),
             differing AS (
            SELECT coalesce(e.id, s.id) AS id, coalesce(e.cost, 0) AS expected, coalesce(s.cost, 0) AS stated
              FROM expected e FULL JOIN stated s
                ON s.id = e.id AND s.month = e.month
               AND concat_ws(E'\\x01', s.provider, s.model, s.feature_code, s.feature_instance_id,
                             num_nulls(s.provider), num_nulls(s.model), num_nulls(s.feature_code))
                 = concat_ws(E'\\x01', e.provider, e.model, e.feature_code, e.feature_instance_id,
                             num_nulls(e.provider), num_nulls(e.model), num_nulls(e.feature_code))
             WHERE coalesce(e.cost, 0) <> coalesce(s.cost, 0)),
             summed AS (
            SELECT l.invoice_id AS id, sum(l.cost) AS cost, sum(l.amount) AS amount, sum(l.net) AS net
              FROM invoice_lines l GROUP BY 1),
             numbered AS (
            SELECT i.id, i.series_no, row_number() OVER (PARTITION BY series_year ORDER BY series_no) AS counted,
                   s.last, count(*) OVER (PARTITION BY series_year) AS issued
              FROM invoices i LEFT JOIN invoice_series s ON s.year = i.series_year),
             wrong AS (
            SELECT i.mandate_no, 'invoice ' || i.number || ' has ' || d.stated || ' of ' || d.expected AS what
              FROM differing d JOIN invoices i ON i.id = d.id
             UNION ALL
            SELECT i.mandate_no, 'invoice ' || i.number || ' does not add up'
              FROM invoices i LEFT JOIN summed s ON s.id = i.id
             WHERE (coalesce(s.amount, 0), coalesce(s.net, 0), coalesce(s.cost, 0) + i.carry_before)
                   <> (i.total, i.net, i.total + i.carry_after)
             UNION ALL
            SELECT i.mandate_no, 'invoice ' || i.number || ' is number ' || n.counted || ' of its year'
              FROM numbered n JOIN invoices i ON i.id = n.id
             WHERE n.series_no <> n.counted OR n.last IS DISTINCT FROM n.issued
             UNION ALL
            SELECT p.mandate_no, 'a payment of ' || p.amount || ' of an invoice was not credited'
              FROM invoice_payments p
              LEFT JOIN payment_credits c ON c.mandate_no = p.mandate_no AND c.event_id = p.event_id
              LEFT JOIN payment_refunds r ON r.mandate_no = p.mandate_no AND r.event_id = p.event_id
             WHERE p.amount IS DISTINCT FROM coalesce(c.amount, -r.amount)
             UNION ALL
            SELECT m.no, CASE WHEN s.mandate_no IS NULL THEN 'it is in CREDIT_POSTPAY and nothing is asked for'
                              ELSE 'it is asked for usage in ' || m.billing_model END
              FROM mandates m LEFT JOIN postpay_spans s ON s.mandate_no = m.no AND s.to_seq IS NULL
             WHERE (m.billing_model = 'CREDIT_POSTPAY') <> (s.mandate_no IS NOT NULL)),
             counted AS (
            SELECT mandate_no, count(*) AS rows,
                   array_to_string((array_agg(what ORDER BY what))[1:3], '; ') AS what FROM wrong GROUP BY 1)
        SELECT coalesce(m.no, w.mandate_no) AS mandate_no, a.no AS account_no, w.rows IS NOT NULL AS failing,
               w.what || CASE WHEN w.rows > 3 THEN '; and ' || w.rows - 3 || ' more' ELSE '' END AS detail
          FROM mandates m FULL JOIN counted w ON w.mandate_no = m.no
          LEFT JOIN accounts a ON a.mandate_no = m.no AND a.type = 'MANDATE'
    """,
}
