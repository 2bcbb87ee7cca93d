"""The check of grants: what remains of each, and what their accounts say of them, against the rows of the ledger."""

__all__ = ["CHECKS"]

# What cannot be read stands for a change of a grant that there is not, so that it shows.
_CHANGES = r"CASE WHEN t.grants ~ '^\d{1,18}:-?\d{1,18}( \d{1,18}:-?\d{1,18})*$' THEN t.grants ELSE '0:1' END"

CHECKS = {
    # What remains of a grant is the sum of what the rows of its account did to it. The sum of an account's grants is
    # kept on the account, and is never more than its balance.
    "grants": f"""
        WITH changes AS (
            SELECT t.mandate_no, t.posted_account_no AS account_no, split_part(change, ':', 1)::bigint AS no,
                   sum(split_part(change, ':', 2)::bigint) AS by
              FROM transactions t CROSS JOIN LATERAL string_to_table({_CHANGES}, ' ') AS change
             WHERE t.grants IS NOT NULL GROUP BY 1, 2, 3),
             compared AS (
            SELECT coalesce(g.mandate_no, c.mandate_no) AS mandate_no,
                   coalesce(g.account_no, c.account_no) AS account_no, coalesce(g.remaining, 0) AS remaining,
                   CASE WHEN coalesce(g.remaining, 0) <> coalesce(c.by, 0)
                        THEN 'of grant ' || coalesce(g.no, c.no) || ' remains ' || coalesce(g.remaining, 0)
                             || ', its rows leave ' || coalesce(c.by, 0) END AS why
              FROM grants g
              FULL JOIN changes c ON c.mandate_no = g.mandate_no AND c.no = g.no AND c.account_no = g.account_no),
             summed AS (
            SELECT mandate_no, account_no, sum(remaining) AS remaining, min(why) AS why FROM compared GROUP BY 1, 2),
             joined AS (
            SELECT coalesce(a.mandate_no, s.mandate_no) AS mandate_no, coalesce(a.no, s.account_no) AS account_no,
                   coalesce(a.granted, 0) AS granted, coalesce(a.balance, 0) AS balance,
                   coalesce(s.remaining, 0) AS remaining, s.why
              FROM accounts a FULL JOIN summed s ON s.mandate_no = a.mandate_no AND s.account_no = a.no)
        SELECT mandate_no, account_no,
               why IS NOT NULL OR granted <> remaining OR granted > greatest(balance, 0) AS failing,
               concat_ws('; ', why,
                         CASE WHEN granted <> remaining THEN 'granted ' || granted || ', of its grants remains '
                              || remaining END,
                         CASE WHEN granted > greatest(balance, 0) THEN 'granted ' || granted || ' of a balance of '
                              || balance END) AS detail
          FROM joined
    """,
}
