"""Reading the topics of the feed from given positions, without a group: every gateway reads all of them."""

from collections.abc import Iterable
from typing import NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.chassis.settings import KafkaSettings
from services.gateway.feed.domain import Place, Positions
from services.gateway.feed.errors import FeedUnavailable

__all__ = ["FeedRecord", "Tail"]

REQUEST_TIMEOUT_MS = 5_000
RECORDS_MAX = 1_000


class FeedRecord(NamedTuple):
    """A record as it lies in its topic."""

    place: Place
    offset: int
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    value: bytes | None


class Tail:
    """A reader of all partitions of some topics. An asynchronous context; raises `FeedUnavailable` where the broker
    does not answer at its beginning."""

    def __init__(self, kafka: KafkaSettings, places: Iterable[Place], *, client_id: str) -> None:
        self._partitions = [TopicPartition(topic, number) for topic, number in places]
        self._options = {
            "bootstrap_servers": kafka.bootstrap_servers,
            "client_id": client_id,
            "group_id": None,
            "enable_auto_commit": False,
            # Also where the topic was made again, and offsets begin anew.
            "auto_offset_reset": "earliest",
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
        }

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(**self._options)
        try:
            await self._consumer.start()
            self._consumer.assign(self._partitions)
        except (OSError, KafkaError) as error:
            await self._consumer.stop()
            raise FeedUnavailable from error
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._consumer.stop()

    async def ends(self) -> Positions:
        """Where the topics end now."""
        try:
            ends = await self._consumer.end_offsets(self._partitions)
        except (OSError, KafkaError) as error:
            raise FeedUnavailable from error
        return Positions({(at.topic, at.partition): end for at, end in ends.items()})

    def read_from(self, positions: Positions) -> None:
        """What is read next."""
        for at in self._partitions:
            self._consumer.seek(at, positions.next[at.topic, at.partition])

    async def position(self, place: Place) -> int:
        """The next offset there; what a compacted topic left out between two records is passed as well."""
        return int(await self._consumer.position(TopicPartition(*place)))

    async def read(self, *, timeout_ms: int) -> list[FeedRecord]:
        """The next records in the order of each partition; none where none came in that time."""
        found = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=RECORDS_MAX)
        return [
            FeedRecord((at.topic, at.partition), record.offset, record.key, record.headers, record.value)
            for at, records in found.items()
            for record in records
        ]
