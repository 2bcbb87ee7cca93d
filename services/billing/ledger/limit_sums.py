"""What counts towards the limits of mandates: parts of the statements that add to the rollups and that change holds, so
that the sums by which limits are decided follow in the same statement.

Mandates without limits are told apart by an index that has no entry of them, and nothing is looked up for them. Every
row is looked up by the whole key of a table, whatever the statistics: OFFSET 0 keeps each look-up by itself.
"""

__all__ = ["LIMITED", "named_in"]

# Those of the given mandates that have limits; the argument is SQL of an array of their numbers.
LIMITED = (
    " limited AS MATERIALIZED (SELECT no, limits_since FROM mandates WHERE no = ANY ({0}) AND limits_since IS NOT NULL)"
)


def named_in(row: str, dimension: str) -> str:
    """Joins what limits can be about, as `named` (kind, key), to rows that have a mandate and a member's account; the
    other names are those of `dimension`."""
    return (
        f" CROSS JOIN LATERAL (SELECT m.user_id FROM accounts m WHERE m.mandate_no = {row}.mandate_no"
        f" AND m.no = {row}.member_account_no OFFSET 0) AS member"
        f" CROSS JOIN LATERAL (VALUES ('member', member.user_id), ('feature', {dimension}.feature_instance_id),"
        f" ('provider', {dimension}.provider), ('model', {dimension}.model)) AS named (kind, key)"
    )
