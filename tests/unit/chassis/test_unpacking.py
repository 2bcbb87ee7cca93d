"""Batches are unpacked within a bound, by the client's own parser too; of an oversized one what fits is read."""

import gzip
import os
import random
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.record import default_records
from aiokafka.record._crecords import default_records as compiled

from services.chassis import records  # noqa: F401 - importing it puts the bounded decoders in place.
from services.chassis.lenient import OVERSIZED_RECORDS_MAX, UNREAD_RECORDS_MAX, UnreadValue, lenient_records
from services.chassis.unpacking import UNPACKED_BYTES_MAX, Damaged, Oversized, unpack
from tests.support.bombs import CODECS, bomb

PARTITION = TopicPartition("usage.recorded", 0)
VALUE_BYTES = 250_000
# More than is unpacked, whatever the codec makes of it.
RECORDS = 2 * UNPACKED_BYTES_MAX // VALUE_BYTES
PARSERS = [compiled.DefaultRecordBatch, default_records._DefaultRecordBatchPy]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("parser", PARSERS)
def test_the_clients_parsers_refuse_an_oversized_batch(parser: type, codec: str) -> None:
    batch = bomb(codec, records=RECORDS, value_bytes=VALUE_BYTES, key=b"k")
    with pytest.raises(Oversized):
        list(parser(bytes(batch)))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("parser", PARSERS)
def test_the_clients_parsers_read_what_is_within_the_bound(parser: type, codec: str) -> None:
    builder = default_records.DefaultRecordBatchBuilder(2, CODECS[codec], 0, -1, -1, 0, 10**7)
    noise = random.Random(1).randbytes(300)
    values = [noise * (number % 50) + b"x" * number for number in range(300)]
    for number, value in enumerate(values):
        builder.append(number, None, b"key", value, [("name", b"raw")])
    assert [bytes(record.value) for record in parser(bytes(builder.build()))] == values


@pytest.mark.parametrize("codec", CODECS)
def test_of_an_oversized_batch_whole_records_are_read_and_the_others_told_by_their_offsets(codec: str) -> None:
    batch = bytes(bomb(codec, records=RECORDS, value_bytes=VALUE_BYTES, key=b"k"))
    unpacked = lenient_records(PARTITION, batch, [], 0)
    found = list(unpacked)
    assert [record.offset for record in found] == list(range(RECORDS))
    assert unpacked.next_fetch_offset == RECORDS
    read = [record for record in found if not isinstance(record.value, UnreadValue)]
    assert len(read) > UNPACKED_BYTES_MAX // VALUE_BYTES - 5
    assert {record.value for record in read} == {bytes(VALUE_BYTES)}
    assert {record.key for record in read} == {b"k"}
    for record in found[len(read) :]:
        assert record.value.length == -1
        assert record.value.digest == b""
        assert len(record.value) <= 64 * 1024


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_single_oversized_record_keeps_its_key_its_beginning_and_its_length(codec: str) -> None:
    batch = bytes(bomb(codec, records=1, value_bytes=2 * UNPACKED_BYTES_MAX, key=b"k"))
    (record,) = lenient_records(PARTITION, batch, [], 0)
    assert (record.key, record.value) == (b"k", bytes(64 * 1024))
    assert (record.value.length, record.value.digest) == (2 * UNPACKED_BYTES_MAX, b"")


def test_a_flood_of_tiny_records_is_told_in_bounded_letters_of_which_the_last_stands_for_the_rest() -> None:
    count = UNPACKED_BYTES_MAX // 40
    assert count > OVERSIZED_RECORDS_MAX
    batch = bytes(bomb("zstd", records=count, value_bytes=60, key=b"k"))
    unpacked = lenient_records(PARTITION, batch, [], 0)
    found = list(unpacked)
    assert len(found) == UNREAD_RECORDS_MAX
    assert f"it stands for {count - UNREAD_RECORDS_MAX + 1} records, to offset {count - 1}" in found[-1].value.why
    assert "stands" not in found[-2].value.why
    assert unpacked.next_fetch_offset == count


def test_a_great_many_members_of_gzip_take_little_time() -> None:
    member = gzip.compress(b"")
    started = time.process_time()
    assert unpack(CODECS["gzip"], member * (1024 * 1024 // len(member)), bytearray(1000)) == (0, True)
    assert time.process_time() - started < 2


def test_gzip_in_several_members_and_with_padding_is_read_and_what_is_cut_off_is_not_taken_for_whole() -> None:
    parts = [os.urandom(50_000), b"", b"end"]
    packed = b"".join(map(gzip.compress, parts)) + bytes(7)
    space = bytearray(100_000)
    size, whole = unpack(CODECS["gzip"], packed, space)
    assert (bytes(space[:size]), whole) == (b"".join(parts), True)
    with pytest.raises(Damaged):
        unpack(CODECS["gzip"], gzip.compress(parts[0])[:-20], space)
