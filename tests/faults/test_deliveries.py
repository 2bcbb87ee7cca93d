"""Deliveries that come twice, in another order, or all over again: the ledger stays as it was."""

import random
from collections.abc import Mapping
from decimal import Decimal

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.support.events import USAGE_PARTITIONS, new_mandate, publish, scattered, stream, usage_record, uuid7
from tests.support.ledger import Books
from tests.support.processes import Crew
from tests.support.topics import delete_topic, make_topic
from tests.support.waiting import eventually

TOPIC = "usage.recorded"
USAGE = "rappen_events_consumed_total"
PARTITIONS = [TopicPartition(TOPIC, number) for number in range(USAGE_PARTITIONS)]


async def test_everything_delivered_twice_is_charged_once(bootstrap_servers: str, books: Books, crew: Crew) -> None:
    mandates = [new_mandate() for _ in range(10)]
    records, ids = stream(mandates, 4000)
    again = scattered(random.sample(records, len(records)))
    async with crew.at_work(2):
        await publish(bootstrap_servers, [*scattered(records), *again])
        await eventually(lambda: _handled(crew, 8000), what="all deliveries")
        assert await crew.metric(USAGE, topic="usage.recorded", outcome="repeated") == 4000
        await books.settled(mandates, ids)


async def test_the_same_events_in_another_order_cost_the_same(bootstrap_servers: str, books: Books, crew: Crew) -> None:
    ordered, shuffled = new_mandate(), new_mandate()
    events = [(f"user-{number % 7}", f"0.{random.randrange(10**9):09}") for number in range(1500)]
    records = [usage_record(ordered, user, amount=amount) for user, amount in events]
    random.shuffle(events)
    records += [usage_record(shuffled, user, amount=amount) for user, amount in events]
    async with crew.at_work(2):
        await publish(bootstrap_servers, scattered(records))
        await books.wait_charged([ordered, shuffled], 3000)
    assert await _exact_cost(books, ordered) == await _exact_cost(books, shuffled)
    assert await books.failing() == {}


async def test_the_whole_topic_replayed_under_a_new_group_changes_nothing(
    bootstrap_servers: str, books: Books, crew: Crew
) -> None:
    mandates = [new_mandate() for _ in range(5)]
    poison = usage_record(mandates[0], amount="-1")
    parked = usage_record(mandates[0], event_id=uuid7(), cost=None, tokens={"input": 1}, model=f"model-{uuid7()}")
    records, ids = stream(mandates, 2000)
    # A topic of its own records: ends that count the marks of other tests' transactions are no number of records.
    await delete_topic(bootstrap_servers, TOPIC)
    await make_topic(bootstrap_servers, TOPIC)
    async with crew.at_work(1):
        await publish(bootstrap_servers, [poison, parked, *records])
        await books.wait_charged(mandates, 2000)
        await eventually(lambda: _unposted(books, mandates[0]), what="the parked event")
        await books.relayed()
    before = await _everything(books)
    crew.workers.clear()
    # A group that begins has no offsets; taking its offsets back to the beginning makes this one such a group.
    ends = await _forget_offsets(bootstrap_servers)
    async with crew.at_work(2):
        await eventually(lambda: _handled(crew, sum(ends.values())), timeout_s=90, what="the whole topic")
        assert await crew.metric(USAGE, topic="usage.recorded", outcome="charged") == 0
        assert await books.unpublished_balances() == 0
        assert await crew.metric("rappen_outbox_published_total", topic="balance.changed") == 0
    assert await _everything(books) == before
    assert before["quarantine"] > 0
    assert await books.failing() == {}
    assert len(await books.event_ids(mandates)) == len(ids) + 1


async def _handled(crew: Crew, count: int) -> bool:
    return await crew.metric("rappen_batch_records_sum", topic="usage.recorded") >= count


async def _unposted(books: Books, mandate: str) -> bool:
    return await books.parked([mandate]) == 1


async def _exact_cost(books: Books, mandate: str) -> Decimal:
    """What was posted, in CHF, and the remainder that was not."""
    cost, remainder = (
        await books.fetch(
            "SELECT -a.balance, a.rounding_remainder FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
            " WHERE m.id = $1 AND a.type = 'MANDATE'",
            mandate,
        )
    )[0]
    exact: Decimal = Decimal(cost).scaleb(-6) + remainder
    return exact


async def _everything(books: Books) -> Mapping[str, object]:
    """A fingerprint of the ledger, the balances and what was refused."""
    rows: list[asyncpg.Record] = await books.fetch(
        "SELECT (SELECT md5(string_agg(t::text, '|' ORDER BY mandate_no, event_id)) FROM transactions t) AS ledger,"
        " (SELECT md5(string_agg(a::text, '|' ORDER BY no)) FROM accounts a) AS accounts,"
        " (SELECT md5(string_agg(r::text, '|' ORDER BY mandate_no, member_account_no, day, dimension_no))"
        " FROM rollups r)"
        " AS rollups, (SELECT count(*) FROM unposted_events) AS unposted,"
        " (SELECT count(*) FROM quarantine) AS quarantine"
    )
    return dict(rows[0])


async def _forget_offsets(bootstrap_servers: str) -> dict[TopicPartition, int]:
    """Sets the group's offsets to the beginning, while nobody works; returns how many records there are."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id="billing", enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(PARTITIONS)
        await consumer.commit(dict.fromkeys(PARTITIONS, 0))
        ends: dict[TopicPartition, int] = await consumer.end_offsets(PARTITIONS)
    finally:
        await consumer.stop()
    return ends
