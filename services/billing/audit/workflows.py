"""The check of the blocks of workflows: that each row's workflow is in its block, and that blocks have no others."""

__all__ = ["CHECKS"]

# The block of a row is the last one that begins at the row or before it, which is found by walking along the chain.
CHECKS = {
    "workflows": """
        WITH walked AS (
            SELECT mandate_no, no, seq, workflow_id,
                   max(begins) OVER (PARTITION BY mandate_no, no ORDER BY seq RANGE UNBOUNDED PRECEDING) AS first_seq
              FROM (SELECT mandate_no, posted_account_no AS no, seq, workflow_id, NULL::bigint AS begins
                      FROM transactions WHERE workflow_id IS NOT NULL
                     UNION ALL
                    SELECT mandate_no, account_no, first_seq, NULL, first_seq FROM workflow_blocks) AS chain),
             of_rows AS (
            SELECT mandate_no, no, first_seq, workflow_id, max(seq) AS seq
              FROM walked WHERE workflow_id IS NOT NULL GROUP BY 1, 2, 3, 4),
             of_blocks AS (
            SELECT mandate_no, account_no AS no, first_seq, workflow_id, last_seq
              FROM workflow_blocks CROSS JOIN LATERAL string_to_table(workflow_ids, chr(10)) AS workflow_id),
             wrong AS (
            SELECT mandate_no, no, count(*) FILTER (WHERE seq IS NOT NULL) AS missing,
                   count(*) FILTER (WHERE seq IS NULL) AS unknown, min(workflow_id) AS first
              FROM of_rows r FULL JOIN of_blocks b USING (mandate_no, no, first_seq, workflow_id)
             WHERE (r.seq <= b.last_seq) IS NOT TRUE GROUP BY 1, 2)
        SELECT coalesce(a.mandate_no, w.mandate_no) AS mandate_no, coalesce(a.no, w.no) AS account_no,
               w.no IS NOT NULL AS failing,
               w.missing || ' workflows of rows are not in their block, ' || w.unknown
               || ' of blocks are of no row, the first is ' || w.first AS detail
          FROM accounts a FULL JOIN wrong w ON w.mandate_no = a.mandate_no AND w.no = a.no
         WHERE a.type IN ('MANDATE', 'USER', 'INTERNAL') OR w.no IS NOT NULL
    """,
}
