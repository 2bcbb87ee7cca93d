"""Checks of balances: what the rows of the ledger moved, one after the other and in all."""

__all__ = ["CHECKS"]

_MOVEMENT = "CASE t.transaction_type WHEN 'DEBIT' THEN -t.amount ELSE t.amount END"

CHECKS = {
    # Balance and number of rows are those of the rows posted to the account, and of those that name it as their contra
    # account. A missing or additional row shows, also at the end of a chain.
    "balance": f"""
        WITH moved AS (SELECT t.mandate_no, t.posted_account_no AS no, sum({_MOVEMENT}) AS by, count(*) AS rows
                         FROM transactions t GROUP BY 1, 2),
             contra AS (SELECT t.mandate_no, t.contra_account, sum({_MOVEMENT}) AS by, count(*) AS rows
                             FROM transactions t WHERE t.contra_account <> 'REVENUE' GROUP BY 1, 2),
             compared AS (
            SELECT a.mandate_no, a.no, a.balance, a.seq,
                   coalesce(moved.by, 0) - coalesce(contra.by, 0) AS by,
                   coalesce(moved.rows, 0) + coalesce(contra.rows, 0) AS rows
              FROM accounts a
              LEFT JOIN moved ON moved.mandate_no = a.mandate_no AND moved.no = a.no
              LEFT JOIN contra ON contra.mandate_no = a.mandate_no AND contra.contra_account = a.type)
        SELECT mandate_no, no AS account_no, balance <> by OR seq <> rows AS failing,
               concat_ws('; ', CASE WHEN balance <> by THEN 'balance ' || balance || ', rows ' || by END,
                         CASE WHEN seq <> rows THEN 'its number of rows is ' || seq || ', there are ' || rows END
               ) AS detail
          FROM compared
    """,
    # Without gaps, each row's balance is the one before it plus what it moved.
    "chain": f"""
        WITH rows AS (
            SELECT t.mandate_no, t.posted_account_no AS no, t.seq, t.balance_after, {_MOVEMENT} AS by,
                   row_number() OVER w AS number, lag(t.balance_after, 1, 0::bigint) OVER w AS before
              FROM transactions t WINDOW w AS (PARTITION BY t.mandate_no, t.posted_account_no ORDER BY t.seq)),
             broken AS (
            SELECT mandate_no, no, min(seq) AS seq FROM rows
             WHERE seq <> number OR balance_after <> before + by GROUP BY 1, 2)
        SELECT a.mandate_no, a.no AS account_no, broken.seq IS NOT NULL AS failing,
               'first broken row is number ' || broken.seq AS detail
          FROM accounts a
          LEFT JOIN broken ON broken.mandate_no = a.mandate_no AND broken.no = a.no
         WHERE a.type IN ('MANDATE', 'USER', 'INTERNAL')
    """,
    # Everything that left one account is on another; revenue is the sum of the rollups.
    "zero_sum": """
        SELECT mandate_no, NULL::bigint AS account_no, sum(amount) <> 0 AS failing,
               'the sum of all accounts is ' || sum(amount) AS detail
          FROM (SELECT no AS mandate_no, 0 AS amount FROM mandates
                 UNION ALL SELECT mandate_no, balance FROM accounts
                 UNION ALL SELECT mandate_no, cost FROM rollups) AS amounts
         GROUP BY 1
    """,
}
