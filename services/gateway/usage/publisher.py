"""Publishes usage events to Kafka; they are acknowledged by every replica before the caller is told that they are
accepted."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from rappen_contracts import Record
from services.chassis.kafka import close_producer, make_producer
from services.chassis.logging import get_logger
from services.chassis.problems import Unavailable
from services.chassis.settings import KafkaSettings
from services.gateway.usage.errors import TooManyInFlight

__all__ = ["UsagePublisher"]

TOPIC = "usage.recorded"
# While the broker is away a produce call would wait for ever, because idempotent batches never expire.
ACKNOWLEDGE_TIMEOUT_S = 10.0

_log = get_logger(__name__)


class UsagePublisher:
    """One producer, made anew after any failure: an idempotent one may fail for ever (its sequence numbers)."""

    def __init__(self, kafka: KafkaSettings, *, client_id: str, in_flight_max: int) -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._in_flight_max = in_flight_max
        self._in_flight = 0
        self._producer: AIOKafkaProducer | None = None
        self._making = asyncio.Lock()

    async def start(self) -> None:
        """Connects; raises when the broker cannot be reached."""
        self._producer = await self._make()

    async def stop(self) -> None:
        """Sends what was taken and disconnects."""
        if self._producer is not None:
            await close_producer(self._producer)

    async def publish(self, records: Sequence[Record]) -> None:
        """Returns when Kafka has all of them; after `Unavailable` it may have some, which a repeat sends again."""
        if self._in_flight + len(records) > self._in_flight_max:
            raise TooManyInFlight
        self._in_flight += len(records)
        try:
            await self._publish(records)
        finally:
            self._in_flight -= len(records)

    async def _publish(self, records: Sequence[Record]) -> None:
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(ACKNOWLEDGE_TIMEOUT_S):
                producer = await self._current()
                sent = [
                    await producer.send(TOPIC, key=record.key, value=record.value, headers=record.headers)
                    for record in records
                ]
                await asyncio.gather(*sent)
        except (KafkaError, TimeoutError, OSError) as error:
            _log.warning("usage not published", records=len(records), error=type(error).__name__)
            await self._discard(producer)
            raise Unavailable(headers={"Retry-After": "2"}) from error

    async def _current(self) -> AIOKafkaProducer:
        async with self._making:
            if self._producer is None:
                self._producer = await self._make()
            return self._producer

    async def _make(self) -> AIOKafkaProducer:
        producer = make_producer(self._kafka, client_id=self._client_id)
        try:
            await producer.start()
        except BaseException:
            await close_producer(producer)
            raise
        return producer

    async def _discard(self, producer: AIOKafkaProducer | None) -> None:
        """Forgets a producer that failed, unless another request has already replaced it."""
        if producer is not None and producer is self._producer:
            self._producer = None
            await close_producer(producer)
