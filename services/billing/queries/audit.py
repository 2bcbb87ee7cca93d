"""The books against themselves: every balance, chain, rollup and sum, in one snapshot of the database."""

from dataclasses import dataclass

import asyncpg

__all__ = ["AuditCheck", "audit"]

FAILING_MAX = 1000
TIMEOUT_S = 1800

_MOVEMENT = "CASE t.transaction_type WHEN 'DEBIT' THEN -t.amount ELSE t.amount END"

# Each statement gives one row for every account it looks at; `failing` tells whether it is wrong, `told` how.
_CHECKS = {
    # Rows that moved the account, less rows that name it as their counter-account.
    "balance": f"""
        WITH moved AS (SELECT t.mandate_no, t.moved_account_no AS no, sum({_MOVEMENT}) AS by
                         FROM transactions t GROUP BY 1, 2),
             countered AS (SELECT t.mandate_no, t.counter, sum({_MOVEMENT}) AS by
                             FROM transactions t WHERE t.counter <> 'REVENUE' GROUP BY 1, 2)
        SELECT m.id AS mandate_id, a.no AS account_no,
               a.balance <> coalesce(moved.by, 0) - coalesce(countered.by, 0) AS failing,
               'balance ' || a.balance || ', rows ' || coalesce(moved.by, 0) - coalesce(countered.by, 0) AS told
          FROM accounts a JOIN mandates m ON m.no = a.mandate_no
          LEFT JOIN moved ON moved.mandate_no = a.mandate_no AND moved.no = a.no
          LEFT JOIN countered ON countered.mandate_no = a.mandate_no AND countered.counter = a.type
    """,
    # Without gaps, each row's balance is the one before it plus what it moved.
    "chain": f"""
        WITH rows AS (
            SELECT t.mandate_no, t.moved_account_no AS no, t.seq, t.balance_after, {_MOVEMENT} AS by,
                   row_number() OVER w AS place, lag(t.balance_after, 1, 0::bigint) OVER w AS before
              FROM transactions t WINDOW w AS (PARTITION BY t.mandate_no, t.moved_account_no ORDER BY t.seq)),
             broken AS (
            SELECT mandate_no, no, min(seq) AS seq FROM rows
             WHERE seq <> place OR balance_after <> before + by GROUP BY 1, 2)
        SELECT m.id AS mandate_id, a.no AS account_no, broken.seq IS NOT NULL AS failing,
               'first broken row is number ' || broken.seq AS told
          FROM accounts a JOIN mandates m ON m.no = a.mandate_no
          LEFT JOIN broken ON broken.mandate_no = a.mandate_no AND broken.no = a.no
         WHERE a.type IN ('MANDATE', 'USER', 'INTERNAL')
    """,
    # Cost and count of every member, day and dimension are those of the ledger.
    "rollups": """
        WITH ledger AS (
            SELECT t.mandate_no, t.account_no, t.period_day AS day, t.dimension_no,
                   sum(CASE t.transaction_type WHEN 'DEBIT' THEN t.amount ELSE -t.amount END) AS cost,
                   sum(CASE t.transaction_type WHEN 'DEBIT' THEN 1 ELSE -1 END) AS count
              FROM transactions t WHERE t.counter = 'REVENUE' GROUP BY 1, 2, 3, 4),
             differing AS (
            SELECT coalesce(l.mandate_no, r.mandate_no) AS mandate_no, coalesce(l.account_no, r.account_no) AS no,
                   count(*) AS rows
              FROM ledger l FULL JOIN rollups r
                ON r.mandate_no = l.mandate_no AND r.account_no = l.account_no AND r.day = l.day
               AND r.dimension_no = l.dimension_no
             WHERE (l.cost, l.count) IS DISTINCT FROM (r.cost::numeric, r.count::numeric) GROUP BY 1, 2)
        SELECT m.id AS mandate_id, a.no AS account_no, d.rows IS NOT NULL AS failing,
               d.rows || ' rollups differ' AS told
          FROM accounts a JOIN mandates m ON m.no = a.mandate_no
          LEFT JOIN differing d ON d.mandate_no = a.mandate_no AND d.no = a.no
         WHERE a.type = 'USER'
    """,
    # Everything that left one account is on another; revenue is the sum of the rollups.
    "zero_sum": """
        SELECT m.id AS mandate_id, NULL::bigint AS account_no, sums.total <> 0 AS failing,
               'the sum of all accounts is ' || sums.total AS told
          FROM mandates m
         CROSS JOIN LATERAL (
            SELECT coalesce((SELECT sum(a.balance) FROM accounts a WHERE a.mandate_no = m.no), 0)
                 + coalesce((SELECT sum(r.cost) FROM rollups r WHERE r.mandate_no = m.no), 0) AS total) sums
    """,
    # What rounding left over is never more than half a micro-franc.
    "carry": """
        SELECT m.id AS mandate_id, a.no AS account_no, abs(a.carry) > 0.0000005 AS failing, 'carry ' || a.carry AS told
          FROM accounts a JOIN mandates m ON m.no = a.mandate_no
    """,
}


@dataclass(frozen=True)
class AuditCheck:
    """One check: how many accounts it looked at, how many fail, and the first of those with what is wrong."""

    name: str
    looked_at: int
    failing_count: int
    failing: list[dict[str, str | None]]


async def audit(connection: asyncpg.Connection) -> list[AuditCheck]:
    """Runs every check on one snapshot, so that it is true at any moment, whatever is being charged meanwhile."""
    results = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = '{TIMEOUT_S}s'")
        await connection.execute("SET LOCAL work_mem = '128MB'")
        for name, statement in _CHECKS.items():
            # One run of the statement gives both the count and, first, what fails.
            rows = await connection.fetch(
                f"SELECT *, count(*) OVER () AS looked_at, count(*) FILTER (WHERE failing) OVER () AS failing_count"
                f" FROM ({statement}) AS checked ORDER BY failing DESC, mandate_id, account_no LIMIT {FAILING_MAX}",
                timeout=TIMEOUT_S,
            )
            failing = [
                {
                    "mandateId": row["mandate_id"],
                    "accountId": None if row["account_no"] is None else str(row["account_no"]),
                    "detail": row["told"],
                }
                for row in rows
                if row["failing"]
            ]
            looked_at, failing_count = (rows[0]["looked_at"], rows[0]["failing_count"]) if rows else (0, 0)
            results.append(AuditCheck(name, looked_at, failing_count, failing))
    return results
