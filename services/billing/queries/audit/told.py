"""The check of what was told: balances that were published, which lie outside the database."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["TOLD", "ToldBalance", "told_arguments"]

# The row after which a balance was published is there, with that balance. A last row that was deleted shows here, even
# where its balance, sums and number of rows were put right.
TOLD = """
    SELECT m.no AS mandate_no, g.account_no, t.balance_after IS DISTINCT FROM g.balance AS failing,
           'row ' || g.version || ' was told with balance ' || g.balance || ' and '
           || coalesce('has ' || t.balance_after, 'is gone') AS told
      FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS g (mandate_id, account_no, version, balance)
      LEFT JOIN mandates m ON m.id = g.mandate_id
      LEFT JOIN transactions t ON t.mandate_no = m.no AND t.moved_account_no = g.account_no AND t.seq = g.version
"""


class ToldBalance(NamedTuple):
    """A published balance in micro-CHF, and the number of the account's row after which it was that."""

    mandate_id: str
    account_no: int
    version: int
    balance: int


def told_arguments(told: Sequence[ToldBalance]) -> tuple[list[object], ...]:
    """The arguments of `TOLD`."""
    columns = [list(column) for column in zip(*told, strict=True)] or [[], [], [], []]
    return tuple(columns)
