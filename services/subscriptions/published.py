"""Waiting until others have read what was published, as a resource of a process that is still being wired."""

from services.chassis.database import Database
from services.chassis.readers import Readers
from services.chassis.settings import KafkaSettings

__all__ = ["LateReaders"]


class LateReaders:
    """`Readers` whose Kafka clients are made at `start`: they need the event loop, and wiring comes before it."""

    def __init__(self, kafka: KafkaSettings, database: Database, *, client_id: str) -> None:
        self._kafka = kafka
        self._database = database
        self._client_id = client_id
        self._started: Readers | None = None

    async def start(self) -> None:
        """Makes the clients and connects; raises when the broker cannot be reached."""
        self._started = Readers(self._kafka, self._database, client_id=self._client_id)
        await self._started.start()

    async def stop(self) -> None:
        """Disconnects."""
        if self._started is not None:
            await self._started.stop()

    async def caught_up(self, topic: str) -> bool:
        """Whether, within a limit, every group has read the topic to its present end."""
        if self._started is None:
            raise RuntimeError("start() comes first")
        return await self._started.caught_up(topic)
