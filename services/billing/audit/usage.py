"""Checks of usage: what each charge says of itself, the rollups, and that an event is claimed once."""

__all__ = ["CHECKS", "SAYS_ITS_PRICE"]

# The charge writes the remainders first and in this order, each value in quotes, so each is found by the number of
# quotes before it, in a tenth of the time that parsing the JSON takes. Releases before began with what explained the
# price. Any other row is parsed as JSON.
_QUOTES_BEFORE = {"carry_before": 4, "carry_after": 8}
_AS_WRITTEN = """(t.derivation LIKE '{"carry_before":"%","carry_after":"%')"""
_QUOTES_BEFORE_IN_OLD = {"cost": 4, "rate": 12, "markup": 16, "exact": 20, "carry_before": 24, "carry_after": 28}
_AS_WRITTEN_OLD = """(t.derivation
                       LIKE '{"cost":"%","currency":"%","rate":"%","markup":"%","exact":"%","carry_before":"%'
                       AND split_part(t.derivation, '"', 26) = 'carry_after')"""
# Whether the database can read it: it cannot hold every number and character that JSON can.
_READABLE = "t.derivation IS JSON OBJECT AND pg_input_is_valid(t.derivation, 'jsonb')"
# A row of releases before. What the charge writes now is none, whatever else somebody has put into it, so each charge
# is either priced again or has to explain its price itself.
SAYS_ITS_PRICE = f"""(CASE WHEN {_AS_WRITTEN} THEN false WHEN {_AS_WRITTEN_OLD} THEN true
                           WHEN {_READABLE} THEN t.derivation::jsonb ? 'exact' ELSE false END)"""


def _numbers(texts: dict[str, str]) -> str:
    """Columns of numbers; null where a text is none, or too large to add up, so that a row somebody changed is named
    instead of raising."""
    return ", ".join(
        f"CASE WHEN pg_input_is_valid({text}, 'numeric(200, 100)') THEN ({text})::numeric END AS {name}"
        for name, text in texts.items()
    )


def _counted(quotes_before: dict[str, int]) -> str:
    return _numbers({name: f"split_part(t.derivation, '\"', {quotes})" for name, quotes in quotes_before.items()})


# Rows that are rounded with the remainder of their account: charges, and corrections of their price, which are named
# beside the ledger. What a row cost, so that a correction that makes a charge cheaper is below zero.
_ROUNDED = """(t.contra_account = 'REVENUE'
                  AND (t.transaction_type = 'DEBIT' OR (t.mandate_no, t.event_id) IN (SELECT * FROM corrections)
                                                       AND t.own))"""
_COST = "CASE t.transaction_type WHEN 'DEBIT' THEN t.amount ELSE -t.amount END"
_CORRECTIONS = "corrections AS (SELECT mandate_no, correction_id FROM price_corrections)"

_READ = _numbers({name: f"d.read ->> '{name}'" for name in _QUOTES_BEFORE_IN_OLD})

CHECKS = {
    # Every charge explains its amount, and so does every correction of its price, which is how much more it costs than
    # before: amount and new remainder are the exact price and the old remainder. Each takes
    # up the remainder of the one before, at most half a micro-franc, and the account has the last. So exact prices,
    # amounts and remainder of an account add up. That the exact price is what the price book and rates make of the
    # usage is checked by computing it again (recomputed.py); of rows of releases before, which have cost and rate in
    # themselves, it is checked here.
    "remainder": f"""
        WITH {_CORRECTIONS},
             usage AS (
            SELECT t.mandate_no, t.posted_account_no AS no, t.seq, {_COST} AS amount, false AS old,
                   NULL::numeric AS cost, NULL::numeric AS rate, NULL::numeric AS markup, NULL::numeric AS exact,
                   {_counted(_QUOTES_BEFORE)}
              FROM transactions t WHERE {_ROUNDED} AND {_AS_WRITTEN}
             UNION ALL
            SELECT t.mandate_no, t.posted_account_no, t.seq, {_COST}, true, {_counted(_QUOTES_BEFORE_IN_OLD)}
              FROM transactions t WHERE {_ROUNDED} AND {_AS_WRITTEN_OLD}
             UNION ALL
            SELECT t.mandate_no, t.posted_account_no, t.seq, {_COST}, d.read ? 'exact', {_READ}
              FROM transactions t
             CROSS JOIN LATERAL (SELECT CASE WHEN {_READABLE} THEN t.derivation::jsonb END AS read) d
             WHERE {_ROUNDED} AND {_AS_WRITTEN} IS NOT TRUE AND {_AS_WRITTEN_OLD} IS NOT TRUE),
             explained AS (
            SELECT mandate_no, no, seq, amount, carry_before, carry_after,
                   CASE WHEN old THEN exact ELSE amount * 0.000001 + carry_after - carry_before END AS exact,
                   NOT old OR coalesce(exact * 100 = cost * rate * (100 + markup), false) AS priced
              FROM usage),
             rows AS (
            SELECT mandate_no, no, seq, exact - amount * 0.000001 AS left_over,
                   priced AND carry_before + exact = carry_after + amount * 0.000001
                          AND abs(carry_after) <= 0.0000005 AS explained,
                   carry_before = lag(carry_after, 1, 0::numeric) OVER w AS follows
              FROM explained WINDOW w AS (PARTITION BY mandate_no, no ORDER BY seq)),
             summed AS (
            SELECT mandate_no, no, sum(left_over) AS remainder,
                   min(seq) FILTER (WHERE explained IS NOT TRUE) AS unexplained,
                   min(seq) FILTER (WHERE follows IS NOT TRUE) AS broken
              FROM rows GROUP BY 1, 2)
        SELECT a.mandate_no, a.no AS account_no,
               s.unexplained IS NOT NULL OR s.broken IS NOT NULL OR a.rounding_remainder <> coalesce(s.remainder,
                 0) AS failing,
               concat_ws('; ', 'row ' || s.unexplained || ' does not explain its amount',
                         'row ' || s.broken || ' does not take up the remainder of the one before',
                         CASE WHEN a.rounding_remainder <> coalesce(s.remainder, 0)
                              THEN 'remainder ' || trim_scale(a.rounding_remainder) || ', rows '
                                   || trim_scale(coalesce(s.remainder, 0)) END) AS detail
          FROM accounts a LEFT JOIN summed s ON s.mandate_no = a.mandate_no AND s.no = a.no
    """,
    # Cost and count of every member, day and dimension are those of the ledger, and there are no others, on no account.
    # A charge counts, what takes it back counts against it, what corrects its price does not.
    "rollups": f"""
        WITH {_CORRECTIONS},
             ledger AS (
            SELECT t.mandate_no, t.member_account_no, t.period_day AS day, t.dimension_no,
                   sum({_COST}) AS cost,
                   sum(CASE WHEN t.transaction_type = 'DEBIT' THEN 1
                            WHEN (t.mandate_no, t.event_id) IN (SELECT * FROM corrections) AND t.own THEN 0
                            ELSE -1 END) AS count
              FROM transactions t WHERE t.contra_account = 'REVENUE' GROUP BY 1, 2, 3, 4),
             differing AS (
            SELECT coalesce(l.mandate_no, r.mandate_no) AS mandate_no,
                   coalesce(l.member_account_no, r.member_account_no) AS no,
                   count(*) AS rows, min(coalesce(l.day, r.day)) AS day
              FROM ledger l FULL JOIN rollups r
                ON r.mandate_no = l.mandate_no AND r.member_account_no = l.member_account_no AND r.day = l.day
               AND r.dimension_no = l.dimension_no
             WHERE (l.cost, l.count) IS DISTINCT FROM (r.cost::numeric, r.count::numeric) GROUP BY 1, 2)
        SELECT coalesce(a.mandate_no, d.mandate_no) AS mandate_no, coalesce(a.no, d.no) AS account_no,
               d.rows IS NOT NULL AS failing, d.rows || ' rollups differ, the first of ' || d.day AS detail
          FROM accounts a FULL JOIN differing d ON d.mandate_no = a.mandate_no AND d.no = a.no
         WHERE a.type = 'USER' OR d.rows IS NOT NULL
    """,
    # No event that is claimed for good without a posting was charged too. One that waits for a price may be charged: it
    # then only has to leave.
    "claims": """
        WITH twice AS (
            SELECT t.mandate_no, t.member_account_no AS no, count(*) AS events, min(t.event_id::text) AS event_id
              FROM unposted_events e
              JOIN transactions t ON t.mandate_no = e.mandate_no AND t.event_id = e.event_id
                AND t.contra_account = 'REVENUE'
               AND NOT t.own
             WHERE e.reason IN ('FREE', 'CANCELLED', 'CANCELLATION') GROUP BY 1, 2)
        SELECT a.mandate_no, a.no AS account_no, d.no IS NOT NULL AS failing,
               d.events || ' events are charged and claimed as free or cancelled too, one is ' || d.event_id AS detail
          FROM accounts a LEFT JOIN twice d ON d.mandate_no = a.mandate_no AND d.no = a.no
         WHERE a.type = 'USER' OR d.no IS NOT NULL
    """,
}
