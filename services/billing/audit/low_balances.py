"""Checks of warnings and recharges: that an account is noted as low by the rule that its mandate has now, and that what
was recharged was credited."""

from services.billing.ledger.thresholds import IS_LOW, THRESHOLD

__all__ = ["CHECKS"]

_IS_LOW, _THRESHOLD = IS_LOW.format(a="a", m="m"), THRESHOLD.format(a="a", m="m")

CHECKS = {
    # At most one recharge of an account is pending, and each that succeeded has the credit of its payment.
    "low": f"""
        WITH recharged AS (
            SELECT r.mandate_no, r.account_no AS no, count(*) FILTER (WHERE r.state = 'PENDING') AS pending,
                   count(*) FILTER (WHERE r.state = 'SUCCEEDED' AND p.event_id IS NULL) AS uncredited
              FROM recharges r
              LEFT JOIN payment_credits p ON p.mandate_no = r.mandate_no AND p.reference = r.cause
             GROUP BY 1, 2)
        SELECT coalesce(a.mandate_no, r.mandate_no) AS mandate_no, coalesce(a.no, r.no) AS account_no,
               a.no IS NULL OR a.low <> {_IS_LOW} OR coalesce(r.pending > 1 OR r.uncredited > 0, false) AS failing,
               concat_ws('; ',
                   CASE WHEN a.no IS NULL THEN 'recharges of an account that is not there' END,
                   CASE WHEN a.low <> {_IS_LOW}
                        THEN CASE WHEN a.low THEN 'noted as low' ELSE 'not noted as low' END
                             || ', balance ' || a.balance || ', threshold ' || coalesce({_THRESHOLD}::text, 'none') END,
                   CASE WHEN r.pending > 1 THEN r.pending || ' recharges are pending' END,
                   CASE WHEN r.uncredited > 0 THEN r.uncredited || ' recharges succeeded without a credit' END
               ) AS detail
          FROM accounts a
          JOIN mandates m ON m.no = a.mandate_no
          FULL JOIN recharged r ON r.mandate_no = a.mandate_no AND r.no = a.no
         WHERE a.type IN ('MANDATE', 'USER') OR r.no IS NOT NULL
    """,
}
