"""Records as only a foreign client makes them: the names of their headers are no text."""

from collections.abc import Container, Sequence
from typing import Literal
from uuid import uuid4

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
    bootstrap_servers: str,
    records: Sequence[RawRecord],
    places: Container[int],
    *,
    partition: int,
    compression: int = 0,
    transaction: Literal["committed", "aborted"] | None = None,
) -> None:
    """Produces the records as one batch; those at the given places have one header more, with such a name."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, acks="all", transactional_id=str(uuid4()) if transaction else None
    )
    await producer.start()
    try:
        if transaction:
            await producer.begin_transaction()
        batch = producer.create_batch()
        # The compiled builder of the client insists on text; the one in Python takes what is given.
        transactional = int(transaction is not None)
        batch._builder = _DefaultRecordBatchBuilderPy(2, compression, transactional, -1, -1, 0, _BATCH_BYTES)
        batch._set_producer_state = batch._builder.set_producer_state
        for number, record in enumerate(records):
            strange = [(_Bytes("x"), b"1")] if number in places else []
            headers = [*record.headers, *strange]
            batch.append(key=record.key, value=record.value, timestamp=None, headers=headers)
        await (await producer.send_batch(batch, "usage.recorded", partition=partition))
        if transaction == "committed":
            await producer.commit_transaction()
        elif transaction == "aborted":
            await producer.abort_transaction()
    finally:
        await producer.stop()
