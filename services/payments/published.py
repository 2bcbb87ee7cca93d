"""Waiting for the readers of what was published, with Kafka clients that are made where the event loop runs."""

from services.chassis.database import Database
from services.chassis.readers import Readers
from services.chassis.settings import KafkaSettings

__all__ = ["LateReaders"]


class LateReaders:
    """`Readers` as a resource that is wired before there is an event loop, which its clients need to be made."""

    def __init__(self, kafka: KafkaSettings, database: Database, *, client_id: str) -> None:
        self._kafka = kafka
        self._database = database
        self._client_id = client_id
        self._readers: Readers | None = None

    async def start(self) -> None:
        """Makes the clients and connects; raises when the broker cannot be reached."""
        self._readers = Readers(self._kafka, self._database, client_id=self._client_id)
        await self._readers.start()

    async def stop(self) -> None:
        """Disconnects."""
        if self._readers is not None:
            await self._readers.stop()

    async def caught_up(self, topic: str) -> bool:
        """Whether, within a limit, every group has read the topic to its present end."""
        if self._readers is None:
            raise RuntimeError("start() comes first")
        return await self._readers.caught_up(topic)
