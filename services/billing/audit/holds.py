"""Checks of holds: that what is held on an account is the sum of its open holds, and that each hold stands where it
belongs and was settled by usage that is there."""

__all__ = ["CHECKS"]

CHECKS = {
    # Those whose time is over count until they were given back.
    "held": """
        WITH reserved AS (
            SELECT mandate_no, account_no AS no, sum(amount) AS amount, count(*) AS holds
              FROM holds WHERE state = 'OPEN' GROUP BY 1, 2)
        SELECT coalesce(a.mandate_no, r.mandate_no) AS mandate_no, coalesce(a.no, r.no) AS account_no,
               a.no IS NULL OR a.held <> coalesce(r.amount, 0) AS failing,
               'held ' || coalesce(a.held::text, 'nothing, for there is no such account') || ', '
               || coalesce(r.holds, 0) || ' open holds of ' || coalesce(r.amount, 0) AS detail
          FROM accounts a FULL JOIN reserved r ON r.mandate_no = a.mandate_no AND r.no = a.no
         WHERE a.type IN ('MANDATE', 'USER') OR a.held <> 0 OR r.no IS NOT NULL
    """,
    # An open hold is on the account that the billing model looks at: the member's own, or the pool. A captured one has
    # its usage: a charge, or usage that was free.
    "holds": """
        WITH wrong AS (
            SELECT h.mandate_no, h.member_account_no AS no, h.id,
                   CASE WHEN member.no IS NULL THEN 'is of no member'
                        WHEN h.state = 'OPEN' AND CASE m.billing_model WHEN 'PREPAY_USER' THEN h.account_no <> member.no
                                                       ELSE account.type IS DISTINCT FROM 'MANDATE' END
                        THEN 'is on account ' || h.account_no || ' in ' || m.billing_model
                        WHEN h.state = 'CAPTURED' AND t.event_id IS NULL AND e.event_id IS NULL
                        THEN 'was settled by usage ' || h.settled_by || ', which is not there' END AS why
              FROM holds h
              JOIN mandates m ON m.no = h.mandate_no
              LEFT JOIN accounts member ON member.mandate_no = h.mandate_no AND member.no = h.member_account_no
                                       AND member.type = 'USER'
              LEFT JOIN accounts account ON account.mandate_no = h.mandate_no AND account.no = h.account_no
              LEFT JOIN transactions t ON t.mandate_no = h.mandate_no AND t.event_id = h.settled_by AND NOT t.own
              LEFT JOIN unposted_events e ON e.mandate_no = h.mandate_no AND e.event_id = h.settled_by AND NOT e.own
                                         AND e.reason = 'FREE'),
             counted AS (
            SELECT mandate_no, no, count(*) AS holds, min('hold ' || id || ' ' || why) AS first
              FROM wrong WHERE why IS NOT NULL GROUP BY 1, 2)
        SELECT coalesce(a.mandate_no, c.mandate_no) AS mandate_no, coalesce(a.no, c.no) AS account_no,
               c.no IS NOT NULL AS failing, c.holds || ' holds are wrong: ' || c.first AS detail
          FROM accounts a FULL JOIN counted c ON c.mandate_no = a.mandate_no AND c.no = a.no
         WHERE a.type = 'USER' OR c.no IS NOT NULL
    """,
}
