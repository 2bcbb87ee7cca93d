"""Decompressing batches of records within a bound.

A batch of one megabyte may expand to gigabytes, and the client below unpacks whatever comes in one piece. Its four
decoders are replaced here: they unpack into a space of fixed size, and say so when a batch does not fit into it, or is
damaged. Such a batch is read in another way (`records.py`), by what of it there is.

The broker unpacks every batch before it takes it, but with decoders of its own, which let pass what others refuse: what
it took has to be read past, or its partition would stand still.
"""

import mmap
import zlib
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TypeAlias

import cramjam
from aiokafka.record import default_records
from aiokafka.record.default_records import DefaultRecordBase
from aiokafka.record.util import decode_varint_py as decode_varint

__all__ = ["HEADERS_MAX", "UNPACKED_BYTES_MAX", "Damaged", "Oversized", "bound_decoders", "header_count", "unpack"]

# Far more than publishers gather into a batch: the broker takes one megabyte, and similar events pack to a fourteenth.
UNPACKED_BYTES_MAX = 32 * 1024 * 1024
# An empty header is two bytes in a batch and thirty times as much when it is read, so their number is bounded too.
HEADERS_MAX = 1000
_HEADER_BYTES_MIN = 2
# What decoders that write into a given space say when it is full.
_FULL = "failed to write whole buffer"
_GZIP_WINDOW = 31
# Gzip is fed in pieces, because after each of its members what is left of the piece is copied.
_GZIP_PIECE = 16 * 1024
# The frame in which Java's snappy puts its blocks: a header, then each block after its length.
_XERIAL_MAGIC, _XERIAL_HEADER, _XERIAL_LENGTH = b"\x82SNAPPY\x00", 16, 4

# What is unpacked into; the memory of a map is taken as it is written to, and can be given back.
Space: TypeAlias = bytearray | mmap.mmap


class Oversized(Exception):  # noqa: N818 - not an error of ours: the batch is read in another way.
    """A batch expands to more than is unpacked."""


class Damaged(Exception):  # noqa: N818 - as above.
    """A batch cannot be unpacked, or has a record of more headers than are read."""


def unpack(codec: int, payload: bytes, space: Space) -> tuple[int, bool]:
    """Unpacks into the space; gives how many bytes of it are good, and whether that is all of the batch."""
    try:
        return _UNPACK[codec](payload, space)
    except Exception as error:  # Each decoder has errors of its own, and all of them mean the same.
        raise Damaged(f"{type(error).__name__}: {error}") from error


def _gzip(payload: bytes, space: Space) -> tuple[int, bool]:
    """What follows a member and is none, such as padding, is left out, as by the broker."""
    size, at, members, piece = 0, 0, 0, b""
    member = zlib.decompressobj(_GZIP_WINDOW)
    while piece or at < len(payload):
        if not piece:
            piece, at = payload[at : at + _GZIP_PIECE], at + _GZIP_PIECE
        if size == len(space):
            return size, False
        try:
            part = member.decompress(piece, len(space) - size)
        except zlib.error:
            if members:
                break
            raise
        space[size : size + len(part)] = part
        size += len(part)
        piece = member.unconsumed_tail
        if member.eof:
            piece, members = member.unused_data, members + 1
            member = zlib.decompressobj(_GZIP_WINDOW)
    if not members:
        raise zlib.error("truncated")
    return size, True


def _snappy(payload: bytes, space: Space) -> tuple[int, bool]:
    if not payload.startswith(_XERIAL_MAGIC):
        return _snappy_block(payload, space, 0)
    size, at = 0, 0
    # Where another header follows, another stream was appended; a beginning of a length at the end is left out.
    while at + _XERIAL_LENGTH <= len(payload):
        if payload.startswith(_XERIAL_MAGIC, at):
            at += _XERIAL_HEADER
            continue
        start = at + _XERIAL_LENGTH
        at = start + int.from_bytes(payload[at:start], "big")
        size, whole = _snappy_block(payload[start:at], space, size)
        if not whole:
            return size, False
    return size, True


def _snappy_block(block: bytes, space: Space, size: int) -> tuple[int, bool]:
    """A block says how large it gets; one that does not fit is not touched."""
    if size + cramjam.snappy.decompress_raw_len(block) > len(space):
        return size, False
    part = bytes(cramjam.snappy.decompress_raw(block))
    space[size : size + len(part)] = part
    return size + len(part), True


def _into(decompress: Callable[[bytes, Space], int], payload: bytes, space: Space) -> tuple[int, bool]:
    try:
        return decompress(payload, space), True
    except cramjam.DecompressionError as error:
        if _FULL not in str(error):
            raise
        return len(space), False


_UNPACK: dict[int, Callable[[bytes, Space], tuple[int, bool]]] = {
    DefaultRecordBase.CODEC_GZIP: _gzip,
    DefaultRecordBase.CODEC_SNAPPY: _snappy,
    DefaultRecordBase.CODEC_LZ4: partial(_into, cramjam.lz4.decompress_into),
    DefaultRecordBase.CODEC_ZSTD: partial(_into, cramjam.zstd.decompress_into),
}
_DECODERS = {
    "gzip_decode": DefaultRecordBase.CODEC_GZIP,
    "snappy_decode": DefaultRecordBase.CODEC_SNAPPY,
    "lz4_decode": DefaultRecordBase.CODEC_LZ4,
    "zstd_decode": DefaultRecordBase.CODEC_ZSTD,
}
# One for all: a batch is unpacked in one go of the loop.
_SPACE = mmap.mmap(-1, UNPACKED_BYTES_MAX)


def _decode(codec: int, payload: bytes) -> bytes:
    size, whole = unpack(codec, bytes(payload), _SPACE)
    if not whole:
        _SPACE.madvise(mmap.MADV_DONTNEED)
        raise Oversized(f"more than {UNPACKED_BYTES_MAX} bytes")
    unpacked = bytes(memoryview(_SPACE)[:size])
    _check_headers(unpacked)
    return unpacked


def header_count(batch: bytes | bytearray, at: int) -> int:
    """The number of headers of the record whose attributes lie there; what is no record raises IndexError or
    ValueError."""
    at += 1
    for _ in ("time", "offset"):
        _, at = decode_varint(batch, at)
    for _ in ("key", "value"):
        length, at = decode_varint(batch, at)
        at += max(0, length)
    count, _ = decode_varint(batch, at)
    return int(count)


def _check_headers(unpacked: bytes) -> None:
    at, end = 0, len(unpacked)
    try:
        while at < end:
            # Nearly all lengths are of one or two bytes; this is done for every record there is.
            first = unpacked[at]
            if first < 0x80:
                length, start = first >> 1, at + 1
            elif (second := unpacked[at + 1]) < 0x80:
                length, start = (first & 0x7F | second << 7) >> 1, at + 2
            else:
                length, start = decode_varint(unpacked, at)
            if first & 1:
                return  # A negative length.
            if length > HEADERS_MAX * _HEADER_BYTES_MIN and header_count(unpacked, start) > HEADERS_MAX:
                raise Damaged(f"more than {HEADERS_MAX} headers")
            at = start + length
    except (IndexError, ValueError):
        return  # It is no record; the parser finds that too.


def bound_decoders() -> None:
    """Puts the bounded decoders in the place of the client's own, in its compiled parser and in the one in Python."""
    for module in {default_records, *_compiled()}:
        for name, codec in _DECODERS.items():
            if not callable(getattr(module, name, None)):
                raise RuntimeError(f"{module.__name__} has no {name}: this version of the client is not bounded")
            setattr(module, name, partial(_decode, codec))


def _compiled() -> list[ModuleType]:
    try:
        from aiokafka.record._crecords import default_records as compiled  # noqa: PLC0415 - not built everywhere.
    except ImportError:
        return []
    return [compiled]
