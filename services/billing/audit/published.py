"""The check of published balances, which are kept outside the database: on the topic `balance.changed`."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

from aiokafka import ConsumerRecord

from rappen_contracts import ContractError, decode
from rappen_contracts.billing.v1 import BalanceChanged
from rappen_contracts.registry import BALANCE_CHANGED_V1, source_topic
from services.billing.money import to_micro
from services.chassis.settings import KafkaSettings
from services.chassis.whole_topics import read_whole_topic

__all__ = ["PUBLISHED", "PublishedBalance", "published_arguments", "read_published"]

RECORDS_MAX = 5_000

# The row after which a balance was published is there, with that balance. So a last row that was deleted is found even
# if the account's balance, the sums and the number of rows were adjusted to that. Before its first row, when only what
# is held on it was published, a balance is nothing.
PUBLISHED = """
    SELECT m.no AS mandate_no, g.account_no,
           CASE g.rows WHEN 0 THEN 0 ELSE t.balance_after END IS DISTINCT FROM g.balance AS failing,
           'row ' || g.rows || ' was published with balance ' || g.balance || ' and '
           || coalesce('has ' || t.balance_after, 'is gone') AS detail
      FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS g (mandate_id, account_no, rows, balance)
      LEFT JOIN mandates m ON m.id = g.mandate_id
      LEFT JOIN transactions t ON t.mandate_no = m.no AND t.posted_account_no = g.account_no AND t.seq = g.rows
"""


class PublishedBalance(NamedTuple):
    """A published balance in micro-CHF, and the number of the account's row after which it was that."""

    mandate_id: str
    account_no: int
    rows: int
    balance: int


def published_arguments(published: Sequence[PublishedBalance]) -> tuple[list[object], ...]:
    """The arguments of `PUBLISHED`."""
    columns = [list(column) for column in zip(*published, strict=True)] or [[], [], [], []]
    return tuple(columns)


async def read_published(kafka: KafkaSettings, *, now: datetime) -> list[PublishedBalance]:
    """The newest balance that was published of each account, up to the present end of the topic.

    It has to be read before the snapshot of the database that it is compared with: what is published is committed.
    Raises what the client raises when the broker is away, `TimeoutError` when it gives nothing more.
    """
    newest: dict[int, tuple[int, PublishedBalance]] = {}
    read = partial(_published_balance, now=now)

    async def take(records: Sequence[ConsumerRecord]) -> None:
        for published in map(read, records):
            if published is not None:
                account_no = published[1].account_no
                newest[account_no] = max(newest.get(account_no, published), published)

    topic = source_topic(BALANCE_CHANGED_V1.name)
    await read_whole_topic(kafka, topic, take, client_id="billing-audit", records_max=RECORDS_MAX)
    return [published for _, published in newest.values()]


def _published_balance(record: ConsumerRecord, *, now: datetime) -> tuple[int, PublishedBalance] | None:
    """The balance in a record with its version; None where the record cannot be read."""
    try:
        changed = decode(record.headers, record.value, now=now).data
    except ContractError:
        return None
    if not isinstance(changed, BalanceChanged) or not changed.account_id.isdecimal():
        return None
    # Before holds were published, the version was the number of rows.
    rows = changed.version if changed.rows is None else changed.rows
    balance = to_micro(changed.balance.amount)
    return changed.version, PublishedBalance(changed.mandate_id, int(changed.account_id), rows, balance)
