"""Batches that the broker takes and its clients do not read: they hold nothing up, and what can be read is charged."""

from collections.abc import Callable

import pytest

from tests.support.bombs import PACK, publish_batch, raw_record
from tests.support.events import RawRecord, new_mandate, publish, usage_record
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess
from tests.support.waiting import eventually

PARTITION = 3
# By what is odd: the codec, what the packed records become, and whether they can be read.
ODD: dict[str, tuple[str | None, Callable[[bytes], bytes], bool]] = {
    "text after gzip": ("gzip", lambda packed: packed + b"garbage", True),
    "half a header after gzip": ("gzip", lambda packed: packed + packed[:3], True),
    "a flag of gzip that there is not": ("gzip", lambda packed: packed[:3] + b"\x80" + packed[4:], False),
    "half a length after snappy": ("snappy", lambda packed: packed + b"abc", True),
    "a second stream of snappy": ("snappy", lambda packed: packed + packed[:16], True),
}


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_batch_is_read_as_far_as_it_goes_and_its_neighbours_are_charged(
    bootstrap_servers: str, worker: ServiceProcess, books: Books, name: str
) -> None:
    codec, change, readable = ODD[name]
    mandate, neighbour = new_mandate(), new_mandate()
    raw = _raw([usage_record(mandate) for _ in range(3)])
    packed = change(PACK[codec](iter([raw])) if codec else raw)
    refused = await _damaged(books)
    await publish_batch(bootstrap_servers, packed, codec=codec, partition=PARTITION, records=3)
    await publish(bootstrap_servers, [usage_record(neighbour, partition=PARTITION) for _ in range(5)])
    await books.wait_charged([neighbour], 5, timeout_s=20)
    assert await books.charged([mandate]) == (3 if readable else 0)
    assert await _damaged(books) - refused == (0 if readable else 3)
    assert await books.failing() == {}
    assert worker.running


@pytest.mark.parametrize("attributes", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("codec", [None, "gzip"])
async def test_the_attributes_of_a_record_mean_nothing(
    bootstrap_servers: str, worker: ServiceProcess, books: Books, codec: str | None, attributes: int
) -> None:
    mandate = new_mandate()
    raw = _raw([usage_record(mandate) for _ in range(3)], attributes=attributes)
    packed = PACK[codec](iter([raw])) if codec else raw
    await publish_batch(bootstrap_servers, packed, codec=codec, partition=PARTITION, records=3)
    await publish(bootstrap_servers, [usage_record(mandate, partition=PARTITION) for _ in range(5)])
    await books.wait_charged([mandate], 8, timeout_s=20)
    assert worker.running


# The length of the key (1) or the offset (1), with a bit set beyond the thirty-second, which the broker drops.
ODD_RECORDS = {
    "length": b"\x00\x00\x02" + b"\x82\x80\x80\x80\x10" + b"k" + b"\x02v\x00",
    "offset": b"\x00\x00" + b"\x82\x80\x80\x80\x10" + b"\x02k" + b"\x02v\x00",
}


@pytest.mark.parametrize("name", ODD_RECORDS)
async def test_a_number_with_more_bits_than_it_may_have_is_refused_alone(
    bootstrap_servers: str, worker: ServiceProcess, books: Books, name: str
) -> None:
    mandate, odd = new_mandate(), ODD_RECORDS[name]
    refused = await _damaged(books)
    packed = _raw([usage_record(mandate)]) + bytes([2 * len(odd)]) + odd
    await publish_batch(bootstrap_servers, packed, codec=None, partition=PARTITION, records=2)
    await publish(bootstrap_servers, [usage_record(mandate, partition=PARTITION) for _ in range(5)])
    await books.wait_charged([mandate], 6, timeout_s=20)
    await eventually(lambda: _is(books, refused + 1), what="a refusal")


def _raw(records: list[RawRecord], *, attributes: int = 0) -> bytes:
    return b"".join(
        raw_record(number, record.key or b"", record.value or b"", record.headers, attributes=attributes)
        for number, record in enumerate(records)
    )


async def _damaged(books: Books) -> int:
    return (await books.quarantined()).get("DAMAGED_BATCH", 0)


async def _is(books: Books, count: int) -> bool:
    return await _damaged(books) == count
