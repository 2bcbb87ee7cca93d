"""Usage on Kafka becomes charges: every legal form of a record, through a real worker process."""

import json
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from tests.support.events import RawRecord, envelope, new_mandate, publish, structured_record, usage_record, uuid7
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess
from tests.support.unreadable import publish_unreadable


async def test_an_event_is_charged_with_markup_to_the_pool(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    await publish(bootstrap_servers, [usage_record(mandate, amount="0.10")])
    await books.wait_charged([mandate], 1)
    assert await books.cost([mandate]) == 150_000
    balance = await books.value(
        "SELECT a.balance FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
        " WHERE m.id = $1 AND a.type = 'MANDATE'",
        mandate,
    )
    assert balance == -150_000
    assert await books.failing() == {}


async def test_the_same_event_twice_is_charged_once(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    record = usage_record(mandate, event_id=uuid7())
    await publish(bootstrap_servers, [record, record])
    await publish(bootstrap_servers, [record, usage_record(mandate)])
    await books.wait_charged([mandate], 2)
    assert await books.charged([mandate]) == 2


async def test_an_event_that_belongs_on_another_topic_is_refused_and_its_neighbours_are_charged(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    payment = {
        "mandate_id": mandate,
        "amount": {"amount": "5", "currency": "CHF"},
        "reason": "top_up",
        "reference": "cs_1",
        "paid_at": "2026-05-01T00:00:00Z",
        "cause": "tests",
    }
    headers = envelope(event_type="ch.rappen.payment.succeeded.v1")
    foreign = RawRecord(json.dumps(payment).encode(), headers, mandate.encode())
    await publish(bootstrap_servers, [usage_record(mandate), foreign, usage_record(mandate)])
    await books.wait_charged([mandate], 2)
    assert await books.refused(mandate) == {"UNKNOWN_TYPE": 1}
    assert await books.failing() == {}


async def test_the_same_id_in_another_mandate_is_another_event(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    first, second, same = new_mandate(), new_mandate(), uuid7()
    await publish(bootstrap_servers, [usage_record(first, event_id=same), usage_record(second, event_id=same)])
    await books.wait_charged([first, second], 2)
    assert await books.refused(first) == await books.refused(second) == {}


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_records_of_every_compression_are_charged(
    bootstrap_servers: str, worker: ServiceProcess, books: Books, codec: str | None
) -> None:
    mandate = new_mandate()
    await publish(bootstrap_servers, [usage_record(mandate) for _ in range(50)], compression=codec)
    await books.wait_charged([mandate], 50)


@pytest.mark.parametrize(
    "content_type",
    [b"application/cloudevents+json", b"application/cloudevents+json; charset=utf-8", b"application/json", None],
)
async def test_structured_events_are_charged_also_where_they_are_labelled_as_plain_json(
    bootstrap_servers: str, worker: ServiceProcess, books: Books, content_type: bytes | None
) -> None:
    mandate, same = new_mandate(), uuid7()
    binary = usage_record(mandate, event_id=same, amount="0.10")
    await publish(bootstrap_servers, [structured_record(binary, content_type), binary, usage_record(mandate)])
    await books.wait_charged([mandate], 2)
    assert sorted(await books.event_ids([mandate])).count(same) == 1
    assert await books.refused(mandate) == {}, "binary and structured mode of one event are repeats of each other"


async def test_headers_that_are_not_ours_never_matter_whatever_is_in_them(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    plain = usage_record(mandate)
    records = [
        usage_record(mandate, headers=[("x-null", None)]),
        usage_record(mandate, headers=[("x-bytes", b"\xff\xfe\x00")]),
        usage_record(mandate, headers=[("", b"")]),
        usage_record(mandate, headers=[("traceparent", b"\xff")]),
        usage_record(mandate, headers=[("ce_subject", None), ("ce_unknown", b"\xff")]),
        usage_record(mandate, headers=[("x-many", b"v")] * 500),
        RawRecord(plain.value, [header for header in plain.headers if header[0] != "content-type"], plain.key),
    ]
    await publish(bootstrap_servers, [entry for record in records for entry in (record, usage_record(mandate))])
    await books.wait_charged([mandate], 2 * len(records))
    assert await books.refused(mandate) == {}


@pytest.mark.parametrize("compression", [0, 3])
async def test_a_header_name_that_is_no_text_loses_neither_its_record_nor_those_beside_it(
    bootstrap_servers: str, worker: ServiceProcess, books: Books, compression: int
) -> None:
    mandate = new_mandate()
    records = [usage_record(mandate, partition=number % 2) for number in range(200)]
    await publish(bootstrap_servers, records[:100])
    for number in (3, 40):
        batch = [usage_record(mandate) for _ in range(50)]
        await publish_unreadable(bootstrap_servers, batch, {number}, partition=0, compression=compression)
    await publish(bootstrap_servers, records[100:])
    await books.wait_charged([mandate], 300)
    assert await books.charged([mandate]) == 300
    assert await books.refused(mandate) == {}
    assert await books.failing() == {}


@pytest.mark.parametrize("compression", [0, 3])
async def test_many_header_names_that_are_no_text_make_no_batches_of_single_records(
    bootstrap_servers: str, worker: ServiceProcess, books: Books, compression: int
) -> None:
    mandate = new_mandate()
    before = await worker.metric("rappen_batch_records_count", topic="usage.recorded")
    for _ in range(4):
        batch = [usage_record(mandate, partition=0) for _ in range(500)]
        await publish_unreadable(
            bootstrap_servers, batch, range(0, len(batch), 100), partition=0, compression=compression
        )
    await books.wait_charged([mandate], 2_000)
    assert await books.charged([mandate]) == 2_000
    assert await worker.metric("rappen_batch_records_count", topic="usage.recorded") - before <= 20
    assert await books.failing() == {}


async def test_a_header_name_that_is_no_text_brings_no_record_of_an_aborted_transaction(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    kept = [usage_record(mandate, partition=0) for _ in range(60)]
    for begin in range(0, len(kept), 20):
        aborted = [usage_record(mandate, partition=0) for _ in range(20)]
        await publish_unreadable(bootstrap_servers, aborted, {3}, partition=0, transaction="aborted")
        part = kept[begin : begin + 20]
        await publish_unreadable(bootstrap_servers, part, {0, 7}, partition=0, transaction="committed")
    await publish_unreadable(bootstrap_servers, [last := usage_record(mandate, partition=0)], {0}, partition=0)
    await books.wait_charged([mandate], len(kept) + 1)
    assert await books.event_ids([mandate]) == sorted(record.event_id for record in (*kept, last))
    assert await books.failing() == {}


async def test_records_of_aborted_transactions_are_not_charged(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    aborted, committed, later = (usage_record(mandate, partition=7) for _ in range(3))
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=str(uuid4()))
    await producer.start()
    try:
        for record, keep in ((aborted, False), (committed, True), (aborted, False)):
            await producer.begin_transaction()
            await producer.send_and_wait(
                "usage.recorded", record.value, key=record.key, headers=record.headers, partition=record.partition
            )
            if keep:
                await producer.commit_transaction()
            else:
                await producer.abort_transaction()
    finally:
        await producer.stop()
    await publish(bootstrap_servers, [later])
    await books.wait_charged([mandate], 2)
    assert await books.event_ids([mandate]) == sorted([committed.event_id, later.event_id])
