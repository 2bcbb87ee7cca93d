"""Batches that are small on the wire and expand to a great deal: many records of zeros, packed piece by piece."""

import time
import zlib
from collections.abc import Iterator, Sequence

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.util import encode_varint

__all__ = ["CODECS", "PACK", "bomb", "publish_batch", "publish_bomb", "raw_record"]

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def bomb(codec: str, *, records: int, value_bytes: int, key: bytes) -> bytearray:
    """A batch of so many records, each with the key and so many zeros; at no time is it whole in memory."""
    builder = _PackedBuilder(2, CODECS[codec], 0, -1, -1, 0, 0)
    builder.take(PACK[codec](raw_record(number, key, bytes(value_bytes)) for number in range(records)), records)
    return builder.build()


async def publish_bomb(
    bootstrap_servers: str, codec: str, *, partition: int, records: int, value_bytes: int, key: bytes
) -> None:
    """Sends such a batch to usage.recorded."""
    packed = PACK[codec](raw_record(number, key, bytes(value_bytes)) for number in range(records))
    await publish_batch(bootstrap_servers, packed, codec=codec, partition=partition, records=records)


async def publish_batch(
    bootstrap_servers: str, packed: bytes, *, codec: str | None, partition: int, records: int
) -> None:
    """Sends a batch of which the records were packed already, well or badly, to usage.recorded."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", max_request_size=8 * 1024 * 1024)
    await producer.start()
    try:
        batch = producer.create_batch()
        builder = _PackedBuilder(2, CODECS[codec] if codec else 0, 0, -1, -1, 0, 0)
        builder.take(packed, records)
        batch._builder, batch._set_producer_state = builder, builder.set_producer_state
        batch._relative_offset = records
        await (await producer.send_batch(batch, "usage.recorded", partition=partition))
    finally:
        await producer.stop()


class _PackedBuilder(_DefaultRecordBatchBuilderPy):  # type: ignore[misc]
    def take(self, packed: bytes, records: int) -> None:
        self._num_records, self._last_offset = records, records - 1
        self._first_timestamp = self._max_timestamp = time.time_ns() // 1_000_000
        self._buffer += packed

    def _maybe_compress(self) -> bool:
        return self._compression_type != self.CODEC_NONE


def raw_record(
    number: int, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes | None]] = (), *, attributes: int = 0
) -> bytes:
    """A record as it stands in a batch."""
    body = bytearray([attributes])
    for part in (0, number, len(key)):
        encode_varint(part, body.append)
    body += key
    encode_varint(len(value), body.append)
    body += value
    encode_varint(len(headers), body.append)
    for name, raw in headers:
        encode_varint(len(name), body.append)
        body += name.encode()
        encode_varint(-1 if raw is None else len(raw), body.append)
        body += raw or b""
    head = bytearray()
    encode_varint(len(body), head.append)
    return bytes(head + body)


def _gzip(parts: Iterator[bytes]) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*map(packer.compress, parts), packer.flush()])


def _snappy(parts: Iterator[bytes]) -> bytes:
    blocks = [bytes(cramjam.snappy.compress_raw(part)) for part in parts]
    framed = [len(block).to_bytes(4, "big") + block for block in blocks]
    return b"".join([b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01", *framed])


def _stream(packer: "cramjam.zstd.Compressor | cramjam.lz4.Compressor", parts: Iterator[bytes]) -> bytes:
    for part in parts:
        packer.compress(part)
    return bytes(packer.finish())


PACK = {
    "gzip": _gzip,
    "snappy": _snappy,
    "lz4": lambda parts: _stream(cramjam.lz4.Compressor(level=9, content_checksum=False, block_linked=False), parts),
    "zstd": lambda parts: _stream(cramjam.zstd.Compressor(level=3), parts),
}
