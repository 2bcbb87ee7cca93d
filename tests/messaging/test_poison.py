"""Poison: each record is refused alone, by its own code and with its own bytes; its neighbours are charged."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

from aiokafka import AIOKafkaProducer

from services.billing.pricing.import_prices import set_rate
from tests.support.databases import opened
from tests.support.events import USAGE_PARTITIONS, RawRecord, new_mandate, publish, usage_record, uuid7
from tests.support.ledger import Books
from tests.support.poison import DEAR_CURRENCY, DEAR_RATE, POISON, dead_letters
from tests.support.processes import ServiceProcess
from tests.support.stack import ServerPair
from tests.support.waiting import eventually

KEPT_BYTES = 64 * 1024


async def test_every_kind_of_poison_is_refused_with_its_code_and_bytes_beside_charged_neighbours(
    servers: ServerPair, bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    async with opened(servers.dsn("billing"), pool_size=1) as database, database.transaction() as connection:
        await set_rate(
            connection,
            currency=DEAR_CURRENCY,
            rate=DEAR_RATE,
            valid_from=datetime(2020, 1, 1, tzinfo=UTC),
            actor="t",
        )
    bad = {
        f"{mandate}/{name}": replace(make(mandate), key=f"{mandate}/{name}".encode())
        for name, (_, make) in POISON.items()
    }
    good = [usage_record(mandate) for _ in range(2 * len(bad))]
    mixed: list[RawRecord] = []
    for number, record in enumerate(bad.values()):
        beside = [good[2 * number], record, good[2 * number + 1]]
        mixed += [replace(entry, partition=number % USAGE_PARTITIONS) for entry in beside]
    await publish(bootstrap_servers, mixed)
    await books.wait_charged([mandate], len(good))
    await eventually(lambda: _refused(books, mandate, len(bad)), what="all refusals")

    rows = await books.fetch("SELECT * FROM quarantine WHERE convert_from(key, 'UTF8') LIKE $1", f"{mandate}/%")
    assert {row["key"].decode().partition("/")[2]: row["error_code"] for row in rows} == {
        name: code for name, (code, _) in POISON.items()
    }
    for row in rows:
        sent = bad[row["key"].decode()].value
        assert row["value"] == (sent if row["error_code"] != "RECORD_TOO_LARGE" else (sent or b"")[:KEPT_BYTES])
        assert row["length"] == len(sent or b"")
        assert row["sha256"] == sha256(sent or b"").digest()
    assert await books.event_ids([mandate]) == sorted(record.event_id for record in good)
    assert await books.failing() == {}
    await books.letters_relayed()
    told = {record.key: record for record in await dead_letters(bootstrap_servers)}
    for key, record in bad.items():
        _assert_complete(told[key.encode()], record, code=POISON[key.partition("/")[2]][0])


async def test_a_record_without_key_and_value_is_refused_and_relayed_like_any_other(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    # No header of ours, so that it is its own mark; the client in Python does not send it, others do.
    await _publish_nothing(bootstrap_servers, mark=mandate)
    await publish(bootstrap_servers, [usage_record(mandate, partition=0)])
    await books.wait_charged([mandate], 1)
    await books.letters_relayed()
    (told,) = [
        record for record in await dead_letters(bootstrap_servers) if ("x-mark", mandate.encode()) in record.headers
    ]
    assert told.value is None
    assert dict(told.headers)["dlq_error_code"] == b"EMPTY"
    assert worker.running


async def test_truncated_json_at_every_place_of_a_batch_spares_all_others(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate, size = new_mandate(), 12
    for place in range(size):
        batch = [usage_record(mandate) for _ in range(size)]
        batch[place] = replace(batch[place], value=(batch[place].value or b"")[:-1])
        await publish(bootstrap_servers, batch)
    await books.wait_charged([mandate], size * (size - 1))
    assert await books.refused(mandate) == {"NOT_JSON": size}
    assert await books.charged([mandate]) == size * (size - 1)


async def test_repeats_and_conflicts_inside_one_batch_and_across_batches(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    ids = [uuid7() for _ in range(50)]
    first = [usage_record(mandate, event_id=event_id, amount="0.10") for event_id in ids]
    other = [usage_record(mandate, event_id=event_id, amount="0.20") for event_id in ids[:20]]
    # 0.1000 is 0.10: the same data in another notation is a repeat, not a conflict.
    same = [usage_record(mandate, event_id=event_id, amount="0.1000") for event_id in ids[:30]]
    await publish(bootstrap_servers, [*first, *other, *same])
    await books.wait_charged([mandate], 50)
    await publish(bootstrap_servers, [*other, *same, usage_record(mandate, event_id=uuid7(), amount="0.10")])
    await books.wait_charged([mandate], 51)
    assert await books.cost([mandate]) == 51 * 150_000
    assert await books.refused(mandate) == {"CONFLICT": 40}


async def test_a_conflict_is_seen_also_when_one_of_the_two_is_not_charged(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    unpriced = {"cost": None, "tokens": {"input": 1}, "model": f"model-{uuid7()}"}
    ids = [uuid7() for _ in range(4)]
    await publish(
        bootstrap_servers,
        [
            usage_record(mandate, event_id=ids[0]),
            usage_record(mandate, event_id=ids[1]),
            usage_record(mandate, event_id=ids[2], **unpriced),
            usage_record(mandate, event_id=ids[3], amount="0"),
        ],
    )
    await books.wait_charged([mandate], 2)
    await publish(
        bootstrap_servers,
        [
            usage_record(mandate, event_id=ids[0], **unpriced),
            usage_record(mandate, event_id=ids[1], amount="0"),
            usage_record(mandate, event_id=ids[2]),
            usage_record(mandate, event_id=ids[3]),
            usage_record(mandate),
        ],
    )
    await books.wait_charged([mandate], 3)
    assert await books.refused(mandate) == {"CONFLICT": 4}
    assert sorted(set(ids)) == sorted(set(await books.event_ids([mandate])) & set(ids))
    assert len(await books.event_ids([mandate])) == 5


async def test_five_percent_poison_among_many_is_counted_exactly(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    records = [usage_record(mandate, f"user-{number % 50}") for number in range(20_000)]
    places = set(random.sample(range(len(records)), 1000))
    mixed = [replace(record, value=b"{") if number in places else record for number, record in enumerate(records)]
    await publish(bootstrap_servers, [replace(r, partition=n % USAGE_PARTITIONS) for n, r in enumerate(mixed)])
    await books.wait_charged([mandate], 19_000)
    await eventually(lambda: _count(books, mandate, 1000), what="all refusals")
    assert await books.refused(mandate) == {"NOT_JSON": 1000}
    assert await books.event_ids([mandate]) == sorted(r.event_id for n, r in enumerate(records) if n not in places)
    assert await books.failing() == {}


def _assert_complete(told: object, sent: RawRecord, *, code: str) -> None:
    headers = list(getattr(told, "headers"))  # noqa: B009 - the client's records are untyped.
    value = getattr(told, "value")  # noqa: B009
    added = {name: raw.decode() for name, raw in headers[len(sent.headers) :]}
    assert headers[: len(sent.headers)] == sent.headers
    assert value == (sent.value if code != "RECORD_TOO_LARGE" else (sent.value or b"")[:KEPT_BYTES])
    assert added.keys() == {
        f"dlq_{name}"
        for name in (
            *("topic", "partition", "offset", "group", "error_code", "error_detail"),
            *("attempts", "at", "length", "sha256"),
        )
    }
    assert (added["dlq_topic"], added["dlq_group"], added["dlq_error_code"]) == ("usage.recorded", "billing", code)
    assert added["dlq_partition"] == str(sent.partition) or sent.partition is None
    assert added["dlq_length"] == str(len(sent.value or b""))
    assert added["dlq_sha256"] == sha256(sent.value or b"").hexdigest()
    assert len(added["dlq_error_detail"]) <= 1000
    assert added["dlq_attempts"] == "1"


async def _publish_nothing(bootstrap_servers: str, *, mark: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
    await producer.start()
    try:
        batch = producer.create_batch()
        batch.append(key=None, value=None, timestamp=None, headers=[("x-mark", mark.encode()), ("x-null", None)])
        await (await producer.send_batch(batch, "usage.recorded", partition=0))
    finally:
        await producer.stop()


async def _refused(books: Books, mandate: str, count: int) -> bool:
    rows = await books.value("SELECT count(*) FROM quarantine WHERE convert_from(key, 'UTF8') LIKE $1", f"{mandate}/%")
    return bool(rows >= count)


async def _count(books: Books, mandate: str, count: int) -> bool:
    return sum((await books.refused(mandate)).values()) >= count
