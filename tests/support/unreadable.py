"""Records as only a foreign client makes them: the names of their headers are no text."""

from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from tests.support.events import RawRecord

__all__ = ["publish_unreadable"]

_BATCH_BYTES = 900_000


class _Bytes(str):
    """A name that is written as bytes which are not UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"x-\xff\xfe"


async def publish_unreadable(
    bootstrap_servers: str, records: Sequence[RawRecord], places: set[int], *, partition: int, compression: int = 0
) -> None:
    """Produces the records as one batch; those at the given places have one header more, with such a name."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
    await producer.start()
    try:
        batch = producer.create_batch()
        # The compiled builder of the client insists on text; the one in Python takes what is given.
        batch._builder = _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, 0, _BATCH_BYTES)
        for number, record in enumerate(records):
            strange = [(_Bytes("x"), b"1")] if number in places else []
            headers = [*record.headers, *strange]
            batch.append(key=record.key, value=record.value, timestamp=None, headers=headers)
        await (await producer.send_batch(batch, "usage.recorded", partition=partition))
    finally:
        await producer.stop()
