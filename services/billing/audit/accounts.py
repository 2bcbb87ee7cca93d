"""Checks of accounts: that those which rows name exist, and that money is only where the billing model looks for it."""

__all__ = ["CHECKS"]

CHECKS = {
    # Every account is of a mandate, and every row and rollup of accounts that exist.
    "accounts": """
        WITH used AS MATERIALIZED (
            SELECT t.mandate_no, t.member_account_no, t.posted_account_no, t.contra_account
              FROM transactions t GROUP BY 1, 2, 3, 4),
             named AS (
            SELECT mandate_no, member_account_no AS no FROM used
             UNION SELECT mandate_no, posted_account_no FROM used
             UNION SELECT mandate_no, member_account_no FROM rollups),
             contra_accounts AS (
            SELECT u.mandate_no, string_agg(DISTINCT u.contra_account, ', ') AS missing
              FROM used u LEFT JOIN accounts a ON a.mandate_no = u.mandate_no AND a.type = u.contra_account
             WHERE u.contra_account <> 'REVENUE' AND a.no IS NULL GROUP BY 1),
             found AS (
            SELECT coalesce(a.mandate_no, n.mandate_no) AS mandate_no, coalesce(a.no, n.no) AS no, a.no IS NULL AS gone
              FROM accounts a FULL JOIN named n ON n.mandate_no = a.mandate_no AND n.no = a.no)
        SELECT f.mandate_no, f.no AS account_no, f.gone OR m.no IS NULL OR c.missing IS NOT NULL AS failing,
               concat_ws('; ', CASE WHEN f.gone THEN 'the account that rows name does not exist' END,
                         CASE WHEN m.no IS NULL THEN 'its mandate, number ' || f.mandate_no || ', does not exist' END,
                         'its mandate has no account ' || c.missing) AS detail
          FROM found f LEFT JOIN mandates m ON m.no = f.mandate_no LEFT JOIN contra_accounts c
            ON c.mandate_no = f.mandate_no
    """,
    # A mandate's billing model is the one that it was switched to last, or the one that each begins with.
    "model": """
        WITH switched AS (
            SELECT DISTINCT ON (mandate_no) mandate_no, after ->> 'billingModel' AS model
              FROM audit_log WHERE action = 'model' ORDER BY mandate_no, id DESC)
        SELECT m.no AS mandate_no, NULL::bigint AS account_no,
               m.billing_model IS DISTINCT FROM coalesce(s.model, 'PREPAY_MANDATE') AS failing,
               'it is ' || m.billing_model || ', switched to ' || coalesce(s.model, 'none') AS detail
          FROM mandates m LEFT JOIN switched s ON s.mandate_no = m.no
    """,
    # There is no money where the billing model does not look: members have some in PREPAY_USER only, the pool in all
    # others. Only what was for the mandate as a whole while nobody was there waits on the pool: since that was empty,
    # nothing else came to it and stayed, as what takes a charge back does not. What a switch takes from one account it
    # gives to others.
    "idle": """
        WITH waiting AS (
            SELECT t.mandate_no, t.posted_account_no AS no, t.seq, t.balance_after = 0 AS empty,
                   CASE WHEN t.contra_account NOT IN ('PAYMENT_PROVIDER', 'SUBSCRIPTION_GRANT')
                             AND NOT (t.contra_account = 'PROMOTIONAL' AND t.reference_id IS NOT NULL)
                             AND NOT (t.own AND t.contra_account = 'REVENUE' AND t.transaction_type = 'DEBIT')
                          OR t.member_account_no <> t.posted_account_no
                        THEN CASE t.transaction_type WHEN 'DEBIT' THEN -t.amount ELSE t.amount END END AS other
              FROM accounts a
              JOIN mandates m ON m.no = a.mandate_no AND m.billing_model = 'PREPAY_USER'
              JOIN transactions t ON t.mandate_no = a.mandate_no AND t.posted_account_no = a.no
             WHERE a.type = 'MANDATE' AND a.balance <> 0),
             emptied AS (
            SELECT mandate_no, no, max(seq) FILTER (WHERE empty) AS seq FROM waiting GROUP BY 1, 2),
             stayed AS (
            SELECT e.mandate_no, e.no, coalesce(sum(w.other) FILTER (WHERE w.seq > coalesce(e.seq, 0)), 0) AS other
              FROM emptied e JOIN waiting w ON w.mandate_no = e.mandate_no AND w.no = e.no GROUP BY 1, 2)
        SELECT a.mandate_no, a.no AS account_no,
               a.balance <> 0 AND CASE a.type
                   WHEN 'USER' THEN m.billing_model <> 'PREPAY_USER'
                   WHEN 'MANDATE' THEN m.billing_model = 'PREPAY_USER'
                                   AND (s.no IS NULL OR s.other <> 0)
                   ELSE a.type = 'TRANSFER' END AS failing,
               'balance ' || a.balance || ' on an account ' || a.type || ' in ' || m.billing_model AS detail
          FROM accounts a JOIN mandates m ON m.no = a.mandate_no
          LEFT JOIN stayed s ON s.mandate_no = a.mandate_no AND s.no = a.no
    """,
}
