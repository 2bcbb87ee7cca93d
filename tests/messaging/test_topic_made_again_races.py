"""A topic that is made again at a bad moment: with a batch of the old one in hand, or after a broker gave no answer."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupCoordinatorNotAvailableError, NodeNotReadyError

import services.chassis.consumer as consumer_module
import services.chassis.watchdog as watchdog_module
from services.chassis.consumer import Consumer, Handler, Received
from services.chassis.database import Database
from services.chassis.quarantine import Refused
from services.chassis.records import RecordReader
from tests.support.events import RawRecord, publish, usage_record
from tests.support.parts import at_work, no_batch, usage_consumer
from tests.support.topics import delete_topic, make_topic
from tests.support.unreadable import publish_unreadable
from tests.support.waiting import eventually

TOPIC = "usage.recorded"
# As long as the watch needs to see that a topic is another one, and a little more.
SEEN_S = 8


def _consumer(bootstrap_servers: str, database: Database, handler: Handler, group: str | None = None) -> Consumer:
    return usage_consumer(
        bootstrap_servers, database, handler, group=group, session_timeout_ms=30_000, batch_records_max=100
    )


async def _make_again(bootstrap_servers: str, sent: Sequence[RawRecord] = ()) -> None:
    await delete_topic(bootstrap_servers, TOPIC)
    await make_topic(bootstrap_servers, TOPIC)
    await publish(bootstrap_servers, list(sent))


async def test_a_batch_of_the_old_topic_that_cannot_be_settled_skips_nothing_of_the_new_one(
    bootstrap_servers: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "RETRY_BUDGET_S", 0.3)
    real_getmany, real_begin_again, polls = RecordReader.getmany, RecordReader.begin_again, 0

    async def getmany(reader: RecordReader, *partitions: Any, **options: Any) -> Any:
        nonlocal polls
        found = await real_getmany(reader, *partitions, **options)
        polls += bool(found)
        return found

    async def begin_again(reader: RecordReader, topics: Sequence[str]) -> None:
        await eventually(lambda: polls >= 2, what="the next batch of the old topic")
        await real_begin_again(reader, topics)

    monkeypatch.setattr(RecordReader, "getmany", getmany)
    monkeypatch.setattr(RecordReader, "begin_again", begin_again)
    await _make_again(bootstrap_servers, [usage_record("old", partition=0) for _ in range(600)])
    sent = [usage_record("new", partition=0) for _ in range(1000)]
    wanted = {record.event_id for record in sent}
    seen: set[Any] = set()
    failed = 0

    async def handler(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        nonlocal failed
        if not seen:
            # While the first batch is worked on, the next one of the old topic is in the client's hands already.
            thread = threading.Thread(target=lambda: asyncio.run(_make_again(bootstrap_servers, sent)))
            thread.start()
            thread.join()
            await asyncio.sleep(SEEN_S)
        elif events[0].event.id not in wanted:
            failed += 1
            raise ConnectionError("the database is away")
        seen.update(received.event.id for received in events)
        return refused

    async with at_work(_consumer(bootstrap_servers, database, handler)):
        await eventually(lambda: wanted <= seen, what="every record of the new topic")
    assert failed, "no batch of the old topic was in hand"


@pytest.mark.parametrize(
    ("failures", "error"),
    # What is not expected is no reason to stand still either.
    [(1, RuntimeError("not expected")), (10_000, RuntimeError("not expected")), (10_000, NodeNotReadyError("gone"))],
)
async def test_a_broker_that_does_not_say_which_topic_it_is_is_asked_again_or_ends_the_process(
    bootstrap_servers: str, database: Database, monkeypatch: pytest.MonkeyPatch, failures: int, error: Exception
) -> None:
    real, asked, seen_before = RecordReader.begin, 0, 0
    seen: set[Any] = set()

    async def begin(reader: RecordReader, partitions: Any) -> None:
        nonlocal asked, seen_before
        asked += 1
        if asked <= failures:
            raise error
        seen_before = len(seen)
        await real(reader, partitions)

    monkeypatch.setattr(RecordReader, "begin", begin)
    # Once: as long as a client needs to have records in hand. For ever: as short as a test likes it.
    monkeypatch.setattr(consumer_module, "BEGIN_RETRY_S", 2.0 if failures == 1 else 0.05)
    if isinstance(error, NodeNotReadyError):
        monkeypatch.setattr(watchdog_module, "STUCK_AFTER_S", 1.0)
    await publish(bootstrap_servers, [usage_record("m") for _ in range(100)])

    async def handler(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        seen.update(received.event.id for received in events)
        return refused

    consumer = _consumer(bootstrap_servers, database, handler)
    if failures == 1:
        async with at_work(consumer):
            await eventually(lambda: len(seen) >= 100, what="records")
            reader = consumer._subscription.reader
            assert reader is not None
            assert reader._topic_ids, "the commits carry no id of their topic"
            assert not seen_before, "records were read before it was known where to begin"
    else:
        with pytest.raises(RuntimeError, match="does not learn where to begin"):
            await asyncio.wait_for(consumer.run(asyncio.Event()), 60)
    assert asked > 1


@pytest.mark.parametrize("error", [RuntimeError("not expected"), NodeNotReadyError("the broker has just gone")])
async def test_a_consumer_that_does_not_know_yet_where_to_begin_ends_when_it_is_told_to(
    bootstrap_servers: str, database: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = 0

    async def begin(reader: RecordReader, partitions: Any) -> None:
        nonlocal asked
        asked += 1
        raise error

    monkeypatch.setattr(RecordReader, "begin", begin)
    async with asyncio.timeout(30), at_work(_consumer(bootstrap_servers, database, no_batch)):
        await eventually(lambda: asked > 1, what="a second try")


async def test_a_place_that_was_found_before_the_topic_was_made_again_is_none_in_the_new_one(
    bootstrap_servers: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client looks for the committed offsets by itself, and may have done so before the topic was another one."""
    real, sent = RecordReader.begin, [usage_record("new", partition=0) for _ in range(200)]
    made_again = False

    async def begin(reader: RecordReader, partitions: Any) -> None:
        nonlocal made_again
        if not made_again and reader._topic_ids == {} and first <= seen:
            await eventually(lambda: (reader._position(TopicPartition(TOPIC, 0)) or 0) > 0, what="the old place")
            await _make_again(bootstrap_servers, sent)
            made_again = True
        await real(reader, partitions)

    monkeypatch.setattr(RecordReader, "begin", begin)
    # Where the client does not happen to look while the topic is away, it does not join its group again for that.
    monkeypatch.setattr(GroupCoordinator, "_on_metadata_change", lambda _: None)
    seen: set[Any] = set()

    async def handler(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        seen.update(received.event.id for received in events)
        return refused

    group = f"tests-{uuid4()}"
    old = [usage_record("old", partition=0) for _ in range(100)]
    first, wanted = {record.event_id for record in old}, {record.event_id for record in sent}
    await _make_again(bootstrap_servers, old)
    async with at_work(_consumer(bootstrap_servers, database, handler, group)):
        await eventually(lambda: first <= seen, what="the records of the old topic")
    async with at_work(_consumer(bootstrap_servers, database, handler, group)):
        await eventually(lambda: wanted <= seen, what="every record of the new topic")
    assert made_again


async def test_a_reader_that_was_expelled_while_it_waited_gives_nothing_of_what_is_anothers(
    bootstrap_servers: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a client does not know where to begin, it tells nobody that it is alive."""
    real, gone = RecordReader.begin, asyncio.Event()
    waiting: RecordReader | None = None
    tries = 0

    async def begin(reader: RecordReader, partitions: Any) -> None:
        nonlocal waiting, tries
        waiting = waiting or reader
        if reader is waiting and not gone.is_set():
            tries += 1
            raise NodeNotReadyError("the broker has just gone")
        await real(reader, partitions)

    monkeypatch.setattr(RecordReader, "begin", begin)
    await _make_again(bootstrap_servers, sent := [usage_record("m", partition=0) for _ in range(50)])
    wanted = {record.event_id for record in sent}
    seen: list[Any] = []
    in_hand, settle = asyncio.Event(), asyncio.Event()

    async def first(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        seen.extend(received.event.id for received in events)
        return refused

    async def second(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        in_hand.set()
        await settle.wait()
        return await first(events, refused)

    group = f"tests-{uuid4()}"
    options: dict[str, Any] = {"group": group, "session_timeout_ms": 6_000}
    async with at_work(usage_consumer(bootstrap_servers, database, first, **options)):
        await eventually(lambda: tries > 0, what="a reader that waits")
        async with at_work(usage_consumer(bootstrap_servers, database, second, **options)):
            try:
                await asyncio.wait_for(in_hand.wait(), 60)
                gone.set()
                await asyncio.sleep(4)
                early = list(seen)
            finally:
                settle.set()
            await eventually(lambda: wanted <= set(seen), what="the records")
    assert not early, "records of partitions that are another's were read"
    assert len(seen) == len(set(seen)), "records were read twice"


async def test_a_consumer_whose_coordinator_is_gone_when_it_asks_where_to_begin_ends_when_it_is_told_to(
    bootstrap_servers: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client asks for ever, also when it is being closed."""
    monkeypatch.setattr(consumer_module, "BEGIN_TRY_S", 2.0)
    asked = 0

    async def fetch(coordinator: GroupCoordinator, partitions: Any) -> Any:
        nonlocal asked
        asked += 1
        raise GroupCoordinatorNotAvailableError

    monkeypatch.setattr(GroupCoordinator, "_do_fetch_commit_offsets", fetch)
    async with asyncio.timeout(30), at_work(_consumer(bootstrap_servers, database, no_batch)):
        await eventually(lambda: asked > 20, what="more tries")


async def test_a_reader_that_waits_through_a_rebalance_gives_nothing_before_the_new_places_are_judged(
    bootstrap_servers: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, judged, held = RecordReader.begin, asyncio.Event(), 0
    judged.set()

    async def begin(reader: RecordReader, partitions: Any) -> None:
        nonlocal held
        held += not judged.is_set()
        await judged.wait()
        await real(reader, partitions)

    monkeypatch.setattr(RecordReader, "begin", begin)
    seen: list[Any] = []

    async def handler(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        seen.extend(received.event.id for received in events)
        return refused

    async def publish_more() -> set[Any]:
        records = [usage_record("m") for _ in range(200)]
        await publish(bootstrap_servers, records)
        return {record.event_id for record in records}

    group = f"tests-{uuid4()}"
    async with at_work(_consumer(bootstrap_servers, database, handler, group)):
        first = await publish_more()
        await eventually(lambda: first <= set(seen), what="the first records")
        judged.clear()
        async with at_work(_consumer(bootstrap_servers, database, handler, group)):
            await eventually(lambda: held >= 2, what="both readers in the rebalance")
            wanted = await publish_more()
            await asyncio.sleep(2)
            early = wanted & set(seen)
            judged.set()
            await eventually(lambda: wanted <= set(seen), what="the records that came meanwhile")
    assert not early, "records were read before it was known where to begin"
    assert len(seen) == len(set(seen)), "records were read twice although nothing went wrong"


async def test_a_poll_that_a_whole_rebalance_came_into_gives_nothing_of_the_places_before_it(
    bootstrap_servers: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_begin, real_fetch, begun, came_between = RecordReader.begin, RecordReader._fetch_leniently, 0, False

    async def begin(reader: RecordReader, partitions: Any) -> None:
        nonlocal begun
        await real_begin(reader, partitions)
        begun += 1

    async def fetch(reader: RecordReader, partition: Any, offset: int) -> Any:
        nonlocal came_between
        if not came_between:
            before = begun

            reader._coordinator.request_rejoin()
            await eventually(lambda: begun > before, what="a rebalance")
            came_between = True
        return await real_fetch(reader, partition, offset)

    monkeypatch.setattr(RecordReader, "begin", begin)
    monkeypatch.setattr(RecordReader, "_fetch_leniently", fetch)
    seen: list[Any] = []

    async def handler(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        seen.extend(received.event.id for received in events)
        return refused

    await _make_again(bootstrap_servers)
    sent = [usage_record("m", partition=0) for _ in range(40)]
    wanted = {record.event_id for record in sent}
    await publish_unreadable(bootstrap_servers, sent[:20], (), partition=0)
    await publish_unreadable(bootstrap_servers, sent[20:], {0}, partition=0)
    async with at_work(_consumer(bootstrap_servers, database, handler)):
        await eventually(lambda: wanted <= set(seen), what="the records")
    assert came_between, "no record had to be fetched apart"
    assert len(seen) == len(set(seen)), "records were read twice although nothing went wrong"


async def test_a_group_that_was_shared_out_while_its_topic_was_away_soon_reads_the_new_one(
    bootstrap_servers: str, database: Database
) -> None:
    seen: set[Any] = set()

    async def handler(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        seen.update(received.event.id for received in events)
        return refused

    async def nothing_is_assigned() -> bool:
        await reader.refresh()
        return not reader.assignment()

    await _make_again(bootstrap_servers, [old := usage_record("old")])
    consumer = _consumer(bootstrap_servers, database, handler)
    async with at_work(consumer):
        await eventually(lambda: old.event_id in seen, what="the first record")
        reader = consumer._subscription.reader
        assert reader is not None

        await delete_topic(bootstrap_servers, TOPIC)
        await eventually(nothing_is_assigned, what="a rebalance without the topic")
        await make_topic(bootstrap_servers, TOPIC)
        await publish(bootstrap_servers, sent := [usage_record("new") for _ in range(20)])
        wanted = {record.event_id for record in sent}
        # Much sooner than the client would look by itself.
        await eventually(lambda: wanted <= seen, what="the records of the new topic")
