"""A topic that is made again at a bad moment: with a batch of the old one in hand, or after a broker gave no answer."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.errors import NodeNotReadyError

import services.chassis.consumer as consumer_module
from services.chassis.clock import system_clock
from services.chassis.consumer import Consumer, Handler, Received
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.quarantine import Refused
from services.chassis.records import RecordReader
from services.chassis.settings import KafkaSettings
from tests.messaging.test_topic_made_again import TOPIC, _delete, _make
from tests.support.events import RawRecord, publish, usage_record
from tests.support.ledger import eventually

# As long as the watch needs to see that a topic is another one, and a little more.
SEEN_S = 8


def _consumer(bootstrap_servers: str, handler: Handler) -> Consumer:
    return Consumer(
        KafkaSettings(bootstrap_servers=bootstrap_servers, session_timeout_ms=30_000, batch_records_max=100),
        client_id="tests",
        group=f"tests-{uuid4()}",
        topics=[TOPIC],
        handler=handler,
        clock=system_clock,
        faults=FaultPoints(None),
        health=Health(),
    )


async def _make_again(bootstrap_servers: str, sent: Sequence[RawRecord] = ()) -> None:
    await _delete(bootstrap_servers)
    await _make(bootstrap_servers)
    await publish(bootstrap_servers, list(sent))


@pytest.mark.timeout(150)
async def test_a_batch_of_the_old_topic_that_cannot_be_settled_skips_nothing_of_the_new_one(
    bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "RETRY_BUDGET_S", 0.3)
    await _make_again(bootstrap_servers, [usage_record("old", partition=0) for _ in range(600)])
    sent = [usage_record("new", partition=0) for _ in range(1000)]
    wanted = {record.event_id for record in sent}
    seen: set[Any] = set()
    failed = 0

    async def handler(events: Sequence[Received], _: Sequence[Refused]) -> None:
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

    consumer, stop = _consumer(bootstrap_servers, handler), asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))

    async def all_of_it() -> bool:
        return wanted <= seen

    try:
        await eventually(all_of_it, what="every record of the new topic", timeout_s=60)
    finally:
        stop.set()
        await running
    assert failed, "no batch of the old topic was in hand"


@pytest.mark.timeout(150)
@pytest.mark.parametrize("failures", [1, 100])
async def test_a_broker_that_does_not_say_which_topic_it_is_is_asked_again_or_ends_the_process(
    bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    real, asked = RecordReader.begin, 0

    async def begin(reader: RecordReader, partitions: Any) -> None:
        nonlocal asked
        asked += 1
        if asked <= failures:
            raise NodeNotReadyError("the broker that was asked has just gone")
        await real(reader, partitions)

    monkeypatch.setattr(RecordReader, "begin", begin)
    monkeypatch.setattr(consumer_module, "BEGIN_RETRY_S", 0.05)
    await publish(bootstrap_servers, [usage_record("m") for _ in range(100)])
    seen: set[Any] = set()

    async def handler(events: Sequence[Received], _: Sequence[Refused]) -> None:
        seen.update(received.event.id for received in events)

    consumer, stop = _consumer(bootstrap_servers, handler), asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    if failures == 1:

        async def some() -> bool:
            return len(seen) >= 100

        await eventually(some, what="records", timeout_s=40)
        reader = consumer._subscription.reader
        assert reader is not None
        assert reader._topic_ids, "the commits carry no id of their topic"
        stop.set()
        await running
    else:
        with pytest.raises(RuntimeError, match="does not learn where to begin"):
            await asyncio.wait_for(running, 30)
    assert asked > 1
