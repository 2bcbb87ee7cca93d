"""The check of credits: payments, refunds, budgets, promotions, opening and manual credits as recorded elsewhere,
against the ledger."""

__all__ = ["CHECKS"]

CHECKS = {
    # Every payment, refund, budget, promotion and opening credit that was recorded has its rows, whatever members it
    # was shared among, and every such row was recorded; manual credits and deductions are those in the audit log. A
    # refund that came to nothing after all has two records, and its payment may have been that of a budget.
    "credits": """
        WITH rows AS (
            SELECT t.mandate_no, CASE WHEN t.contra_account = 'PROMOTIONAL' AND t.reference_id IS NULL
                                      THEN t.posted_account_no END AS no,
                   CASE WHEN t.reference_type = 'PAYMENT' THEN 'PAYMENT_PROVIDER' ELSE t.contra_account END
                   AS contra_account,
                   CASE WHEN t.reference_type = 'PAYMENT' THEN t.reference_id ELSE
                   CASE t.contra_account WHEN 'SUBSCRIPTION_GRANT' THEN t.reference_id || ' from ' || t.occurred_at
                                  WHEN 'PAYMENT_PROVIDER' THEN t.reference_id
                                  WHEN 'PROMOTIONAL' THEN coalesce(t.reference_id, '') ELSE '' END END AS cause,
                   sum(CASE t.transaction_type WHEN 'DEBIT' THEN -t.amount ELSE t.amount END) AS amount
              FROM transactions t
             WHERE t.contra_account = 'ADMIN' AND t.reference_type = 'ADMIN'
                OR t.contra_account = 'PROMOTIONAL' AND t.reference_id IS NULL
                OR t.contra_account = 'PAYMENT_PROVIDER'
                OR t.contra_account = 'SUBSCRIPTION_GRANT' AND t.reference_type = 'PAYMENT'
                OR t.contra_account IN ('SUBSCRIPTION_GRANT', 'PROMOTIONAL') AND t.transaction_type = 'CREDIT'
             GROUP BY 1, 2, 3, 4),
             recorded AS (
            SELECT mandate_no, NULL::bigint AS no, 'SUBSCRIPTION_GRANT' AS contra_account,
                   subscription_id || ' from ' || period_start AS cause, amount FROM subscription_budgets
             UNION ALL
            SELECT mandate_no, NULL, 'PAYMENT_PROVIDER', reference, amount FROM payment_credits
             UNION ALL
            SELECT mandate_no, NULL, 'PAYMENT_PROVIDER', refund_id, -amount FROM payment_refunds
             UNION ALL
            SELECT mandate_no, NULL, 'PAYMENT_PROVIDER', reference, amount FROM budget_movements WHERE amount < 0
             UNION ALL
            SELECT r.mandate_no, NULL, 'PROMOTIONAL', r.promotion_id::text, p.amount
              FROM promotion_redemptions r JOIN promotions p ON p.id = r.promotion_id
             UNION ALL
            SELECT mandate_no, no, 'PROMOTIONAL', '', coalesce(opening_credit, 0) FROM accounts
             WHERE opening_credit_at IS NOT NULL OR opening_credit IS NOT NULL
             UNION ALL
            SELECT m.no, NULL, 'ADMIN', '',
                   sum(CASE WHEN pg_input_is_valid(l.after ->> 'amount', 'numeric')
                            THEN (l.after ->> 'amount')::numeric * 1000000 END)
              FROM mandates m LEFT JOIN audit_log l ON l.mandate_no = m.no AND l.action = 'credit' GROUP BY 1),
             marks AS (
            SELECT mandate_no, no, contra_account, cause, sum(amount) AS amount FROM recorded GROUP BY 1, 2, 3, 4),
             compared AS (
            SELECT coalesce(m.mandate_no, r.mandate_no) AS mandate_no, coalesce(m.no, r.no) AS no,
                   coalesce(m.amount, 0) <> coalesce(r.amount, 0) AS failing,
                   coalesce(m.contra_account, r.contra_account) || ' ' || coalesce(m.cause, r.cause) || ': recorded '
                   || coalesce(m.amount::bigint, 0) || ', rows ' || coalesce(r.amount, 0) AS detail
              FROM marks m FULL JOIN rows r
                ON r.mandate_no = m.mandate_no AND coalesce(r.no, 0) = coalesce(m.no, 0)
                  AND r.contra_account = m.contra_account
               AND r.cause = m.cause)
        SELECT mandate_no, no AS account_no, bool_or(failing) AS failing,
               string_agg(detail, '; ' ORDER BY detail) FILTER (WHERE failing) AS detail
          FROM compared GROUP BY 1, 2
    """,
}
