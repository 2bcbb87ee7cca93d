"""A topic that is deleted and made again under a worker: its events are charged, none is passed over."""

import pytest

from tests.support.events import USAGE_PARTITIONS, RawRecord, new_mandate, publish, usage_record
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess
from tests.support.topics import delete_topic, make_topic
from tests.support.waiting import eventually

TOPIC = "usage.recorded"


async def test_an_idle_worker_tells_that_its_topic_is_gone_and_reads_the_new_one_from_its_beginning(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    old, new = new_mandate(), new_mandate()
    await publish(bootstrap_servers, _spread(old, 600))
    await books.wait_charged([old], 600)
    await delete_topic(bootstrap_servers, TOPIC)
    await eventually(lambda: worker.is_held_up(f"topic {TOPIC} does not exist"), what="a red light")
    await make_topic(bootstrap_servers, TOPIC)
    await publish(bootstrap_servers, _spread(new, 100))
    await books.wait_charged([new], 100)
    await worker.ready()
    assert await books.charged([new]) == 100
    assert await books.refused(new) == {}


@pytest.mark.parametrize("count", [20, 2_000])
async def test_a_topic_made_again_at_once_is_read_whole_whether_shorter_or_longer_than_the_old_one(
    bootstrap_servers: str, worker: ServiceProcess, books: Books, count: int
) -> None:
    old, new = new_mandate(), new_mandate()
    await publish(bootstrap_servers, _spread(old, 1_000))
    await books.wait_charged([old], 1_000)
    await delete_topic(bootstrap_servers, TOPIC)
    await make_topic(bootstrap_servers, TOPIC)
    await publish(bootstrap_servers, _spread(new, count))
    await books.wait_charged([new], count)
    assert await books.charged([new]) == count
    assert await books.failing() == {}


async def test_under_load_the_events_of_the_new_topic_are_charged_once_each(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    old, new = new_mandate(), new_mandate()
    await publish(bootstrap_servers, _spread(old, 30_000))
    await books.wait_charged([old], 1_000)
    await delete_topic(bootstrap_servers, TOPIC)
    await make_topic(bootstrap_servers, TOPIC)
    sent = _spread(new, 100)
    await publish(bootstrap_servers, sent)
    await books.wait_charged([new], 100)
    assert await books.event_ids([new]) == sorted(record.event_id for record in sent)
    # And after the next start: what was committed of the old topic is no place in the new one.
    more = _spread(new, 400)
    worker.stop()
    await publish(bootstrap_servers, more)
    worker.start()
    await books.wait_charged([new], 500)
    assert await books.charged([new]) == 500
    assert await books.failing() == {}


def _spread(mandate: str, count: int) -> list[RawRecord]:
    return [usage_record(mandate, partition=number % USAGE_PARTITIONS) for number in range(count)]


async def test_a_refused_record_is_kept_though_one_of_the_old_topic_was_refused_at_the_same_place(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    marks = [new_mandate(), new_mandate(), new_mandate()]
    for mark in marks:
        await delete_topic(bootstrap_servers, TOPIC)
        await make_topic(bootstrap_servers, TOPIC)
        # In the last two the values are the same, and the keys alone tell them apart.
        bad = RawRecord(b"{" if mark != marks[0] else b"[", usage_record(mark).headers, mark.encode(), partition=3)
        await publish(bootstrap_servers, [bad])
        await eventually(lambda mark=mark: _refused(books, mark), what="a refusal")  # type: ignore[misc]
    rows = await books.fetch("SELECT \"offset\" FROM quarantine WHERE convert_from(key, 'UTF8') = ANY($1)", marks)
    assert [row["offset"] for row in rows] == [0, 0, 0]


async def _refused(books: Books, mark: str) -> bool:
    return sum((await books.refused(mark)).values()) == 1
