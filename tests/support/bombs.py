"""Batches that are small on the wire and expand to a great deal: many records of zeros, packed piece by piece."""

import zlib
from collections.abc import Iterator

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.util import encode_varint

__all__ = ["CODECS", "bomb", "publish_bomb"]

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def bomb(codec: str, *, records: int, value_bytes: int, key: bytes) -> bytearray:
    """A batch of so many records, each with the key and so many zeros; at no time is it whole in memory."""
    builder = _PackedBuilder(2, CODECS[codec], 0, -1, -1, 0, 0)
    builder.pack(codec, records, value_bytes, key)
    return builder.build()


async def publish_bomb(
    bootstrap_servers: str, codec: str, *, partition: int, records: int, value_bytes: int, key: bytes
) -> None:
    """Sends such a batch to usage.recorded."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", max_request_size=8 * 1024 * 1024)
    await producer.start()
    try:
        batch = producer.create_batch()
        builder = _PackedBuilder(2, CODECS[codec], 0, -1, -1, 0, 0)
        builder.pack(codec, records, value_bytes, key)
        batch._builder, batch._set_producer_state = builder, builder.set_producer_state
        batch._relative_offset = records
        await (await producer.send_batch(batch, "usage.recorded", partition=partition))
    finally:
        await producer.stop()


class _PackedBuilder(_DefaultRecordBatchBuilderPy):  # type: ignore[misc]
    def pack(self, codec: str, records: int, value_bytes: int, key: bytes) -> None:
        self._num_records, self._last_offset = records, records - 1
        self._buffer += _PACK[codec](_record(number, value_bytes, key) for number in range(records))

    def _maybe_compress(self) -> bool:
        return True


def _record(number: int, value_bytes: int, key: bytes) -> bytes:
    body = bytearray(b"\x00")
    for part in (0, number, len(key)):
        encode_varint(part, body.append)
    body += key
    encode_varint(value_bytes, body.append)
    body += bytes(value_bytes)
    encode_varint(0, body.append)
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


_PACK = {
    "gzip": _gzip,
    "snappy": _snappy,
    "lz4": lambda parts: _stream(cramjam.lz4.Compressor(level=9, content_checksum=False, block_linked=False), parts),
    "zstd": lambda parts: _stream(cramjam.zstd.Compressor(level=3), parts),
}
