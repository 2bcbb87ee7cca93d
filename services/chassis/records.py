"""Reading records so that none of them can make others fail: bounded in memory, whatever is in them.

The client below decompresses whatever a record expands to and hands out records by number, so a poll of small
compressed records may need gigabytes. It also decodes the names of headers strictly, although Kafka takes any bytes:
one such record would hold its partition up for ever and lose what was polled with it. So would a batch that the broker
lets pass and the client does not, or in which it finds offsets that are not the batch's own. All of it is closed here:
what the client cannot read in its usual way is fetched apart and read by the parser below, bounded and leniently.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from rappen_contracts.registry import RECORD_BYTES_MAX
from services.chassis.lenient import lenient_records
from services.chassis.logging import get_logger
from services.chassis.partition_records import KafkaRecord, LightRecords, cut_key, cut_value
from services.chassis.process import pause
from services.chassis.topics import partition_ends, topic_ids
from services.chassis.unpacking import Damaged, Oversized, bound_decoders

__all__ = ["KafkaRecord", "PartitionOffsets", "RecordReader", "TopicsNow"]

bound_decoders()


class _CheckedRecords(MemoryRecords):  # type: ignore[misc]
    """The batches of an answer, whose records have no other offsets than those of their batch: the position follows
    them, and one beyond would pass over the records of others."""

    def next_batch(self) -> Any:
        batch = super().next_batch()
        return None if batch is None else _CheckedBatch(batch)


class _CheckedBatch:
    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        offset, end = self._batch.base_offset - 1, self._batch.next_offset
        for record in self._batch:
            if not offset < record.offset < end:
                raise CorruptRecordException(f"offset {record.offset} in a batch from {offset + 1} to {end - 1}")
            offset = record.offset
            yield record


if fetcher.MemoryRecords is not MemoryRecords or fetcher.PartitionRecords is not LightRecords.__base__:
    raise RuntimeError("this version of the client reads records in another way: their offsets are not checked")
fetcher.MemoryRecords, fetcher.PartitionRecords = _CheckedRecords, LightRecords

# A poll that finds nothing ends after this time; then the caller looks whether it should stop.
POLL_WAIT_MS = 1_000
# A poll ends when it holds this much, whatever number of records was asked for.
POLL_BYTES_MAX = 5 * 1024 * 1024
# Records are taken in steps, small ones first, so that few have been unpacked when the first large one is seen.
STEP_FIRST, STEP_MAX = 16, 256
# How many records of one partition are read in a row while others wait: more than one fetch of it usually has.
TURN_RECORDS = 10_000
# What the client raises for a name that is no text and for records that are not as they should be, and its bounded
# decoders for a batch that expands to too much or cannot be unpacked.
_UNREADABLE = (UnicodeDecodeError, CorruptRecordException, Oversized, Damaged)
_NO_NODE = -1
# Where an answer says which transactions were aborted; to version 4 it does not say where the log starts.
_ABORTED_AT, _LAST_WITHOUT_LOG_START = 2, 4

_log = get_logger(__name__)


class PartitionOffsets(NamedTuple):
    """Offsets of a partition: the next record to read, the first that is not committed yet, and the end."""

    position: int
    stable: int
    end: int


class TopicsNow(NamedTuple):
    """Topics that do not exist now, and topics that were deleted and made again."""

    missing: list[str]
    changed: list[str]


class RecordReader(AIOKafkaConsumer):  # type: ignore[misc]
    """The client's consumer with a `getmany` that is bounded in bytes and loses nothing to an unreadable record."""

    def __init__(self, *topics: str, reading: asyncio.Event, **options: Any) -> None:
        """`reading` is set while records may be read; the other arguments are the client's."""
        super().__init__(*topics, **options | {"key_deserializer": cut_key, "value_deserializer": cut_value})
        self._reading = reading
        # Which incarnation of each topic the positions belong to.
        self._topic_ids: dict[str, str] = {}
        # Set while the assignment's positions are known to be right: the client fetches as soon as it has them.
        self._placed = asyncio.Event()
        # How often the positions of an assignment were revoked.
        self._revoked = 0
        # The partition that was read last, and how many of its records in a row.
        self._in_a_row: tuple[TopicPartition | None, int] = None, 0
        # How often topics were begun again, now and when the newest batch was asked for.
        self._begun = self._begun_at_poll = 0

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[KafkaRecord]]:
        """Up to so many records, fewer when they are large; waits while it has none or may not read, and until `begin`
        is through."""
        if not (await self._is_set(self._placed) and await self._is_set(self._reading)):
            return {}
        self._begun_at_poll, revoked = self._begun, self._revoked
        found: dict[TopicPartition, list[KafkaRecord]] = {}
        left = max_records if max_records is not None else STEP_MAX
        size, step = 0, STEP_FIRST
        while left > 0 and size < POLL_BYTES_MAX and self._revoked == revoked:
            try:
                partition = self._buffered(partitions)
                if partition is not None:
                    taken = await self._take(partition, min(step, left), left, POLL_BYTES_MAX - size)
                    self._take_turns(partition, sum(map(len, taken.values())))
                elif not found and (waited := await self._wait(partitions, max(timeout_ms, POLL_WAIT_MS), left)):
                    taken = waited
                else:
                    break
            except KafkaError as error:
                _log.warning("records not to be had", error=type(error).__name__)
                # What was taken before is not to be lost; the client will say again what is wrong.
                if not found:
                    raise
                break
            for source, records in taken.items():
                found.setdefault(source, []).extend(records)
                left -= len(records)
                size += sum([record.size for record in records])
            step = min(step * 2, STEP_MAX)
        if self._revoked != revoked:
            # A rebalance came in between, perhaps a whole one: these records are from positions that are revoked, or
            # from new ones that may not have been checked when they were read.
            self._give_back(found)
            return {}
        return found

    def gather(self, seconds: float) -> None:
        """Lets the broker wait for so long from the next fetch on, where it has less than the least that was asked
        for."""
        self._fetcher._fetch_max_wait_ms = int(seconds * 1000)  # noqa: SLF001 - fixed by its constructor otherwise.

    async def commit(self, offsets: Any = None) -> None:
        """Commits positions with the id of the topic they belong to: they mean nothing in one that was made again."""
        subscription = self._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        if offsets is None and assignment is not None:
            offsets = {
                partition: (consumed.offset, self._topic_ids.get(partition.topic, ""))
                for partition, consumed in assignment.all_consumed_offsets().items()
            }
        if offsets:
            await super().commit(offsets)

    async def partition_offsets(self) -> dict[TopicPartition, PartitionOffsets]:
        """The offsets of each partition that is assigned to this process now."""
        positions = {
            partition: position
            for partition in self.assignment()
            if (position := self._position(partition)) is not None
        }
        stable = await partition_ends(self._client, positions, READ_COMMITTED)
        ends = await partition_ends(self._client, positions, READ_UNCOMMITTED)
        return {at: PartitionOffsets(position, stable[at], ends[at]) for at, position in positions.items()}

    async def begin(self, partitions: Iterable[TopicPartition]) -> None:
        """Takes partitions up that were just assigned, each at its committed position; at its beginning where it has
        none or one of a topic of the same name that is no more. The client has looked by itself, but perhaps before the
        topic was made again, with which the committed positions go.

        Takes nothing up where the group is to be joined again, as by a reader that was expelled because finding all
        this out took too long, while nobody tells the broker that it is alive: `begin` is then called again.
        """
        taken = list(partitions)
        topics = {partition.topic for partition in taken}
        ids = self._topic_ids | await topic_ids(self._client, topics)
        if not topics <= ids.keys():
            # A broker that has just heard of a topic may not know it yet; without its id no position can be judged.
            raise UnknownTopicOrPartitionError(topics - ids.keys())
        committed = await self._coordinator.fetch_committed_offsets(taken) if taken else {}
        if taken and not await self._is_member():
            return
        for partition in taken:
            at = committed.get(partition)
            outdated = at is not None and at.metadata and at.metadata != ids[partition.topic]
            if outdated:
                _log.warning("offset of a topic that is no more", topic=partition.topic, partition=partition.partition)
            position = 0 if at is None or outdated else at.offset
            if self._position(partition) != position:
                self.seek(partition, position)
        self._topic_ids = ids
        self._placed.set()

    async def _is_member(self) -> bool:
        """Whether the broker counts this reader among its group, which needs not be joined again."""
        alive = await self._coordinator._do_heartbeat()  # noqa: SLF001 - its own heartbeat is not running yet.
        if self._coordinator.need_rejoin(self._subscription.subscription):
            return False
        if not alive:
            raise NodeNotReadyError("the coordinator of the group does not answer")
        return True

    def revoke(self) -> None:
        """Gives no records until `begin` has judged the positions of the next assignment."""
        self._placed.clear()
        self._revoked += 1

    async def topics_now(self, topics: Sequence[str]) -> TopicsNow:
        """Which of the topics do not exist, and which are others than those that are being read."""
        found = await topic_ids(self._client, topics)
        changed = [name for name in found if self._topic_ids.get(name, found[name]) != found[name]]
        return TopicsNow([name for name in topics if name not in found], changed)

    @property
    def is_beginning(self) -> bool:
        """Whether partitions are assigned that `begin` has not taken up yet."""
        return bool(self.assignment()) and not self._placed.is_set()

    @property
    def newest_batch_is_outdated(self) -> bool:
        """Whether topics were begun again since the newest batch was asked for: it may not be given back, because its
        positions are those of a topic that is no more."""
        return self._begun_at_poll != self._begun

    async def begin_again(self, topics: Sequence[str]) -> None:
        """Reads topics from their beginning that were deleted and made again. No batch is being settled meanwhile."""
        self._topic_ids |= await topic_ids(self._client, topics)
        self._begun += 1
        for partition in self.assignment():
            if partition.topic in topics:
                self.seek(partition, 0)

    async def refresh(self) -> None:
        """Fetches the metadata again: which partitions there are, and which brokers lead them."""
        await self._client.force_metadata_update()

    async def _is_set(self, event: asyncio.Event) -> bool:
        """Whether the event is set; waits for it a moment at most.

        The client has to see that somebody reads: a reader that was idle for too long is expelled from its group and
        not let in again, and an error of the group holds everything up until somebody takes it.
        """
        if not event.is_set():
            self._coordinator.check_errors()
            with self._subscription.fetch_context():
                await pause(event, POLL_WAIT_MS / 1000)
        return event.is_set()

    def _give_back(self, taken: Mapping[TopicPartition, Sequence[KafkaRecord]]) -> None:
        """Reads records again that were not handed on; an assignment that begins before them comes to them anyway."""
        for partition, records in taken.items():
            position = self._position(partition)
            first = min([record.offset for record in records], default=position)
            if position is not None and first is not None and position > first:
                self.seek(partition, first)

    def _buffered(self, partitions: Sequence[TopicPartition]) -> TopicPartition | None:
        """The partition that the client would unpack next; an answer that could not be unpacked stays in front."""
        buffered = self._fetcher._records  # noqa: SLF001 - nothing public says so without taking the records.
        return next((partition for partition in buffered if not partitions or partition in partitions), None)

    def _take_turns(self, partition: TopicPartition, count: int) -> None:
        """Lets other partitions go first after so many records of one in a row: a batch that expands to a million
        records would keep them waiting. Not before, because the client fetches more of a partition only when it has
        nothing left of it: read one after the other, the first is fetched while the last is worked on."""
        before, given = self._in_a_row
        self._in_a_row = partition, (given if partition == before else 0) + count
        if self._in_a_row[1] >= TURN_RECORDS and partition in self._fetcher._records:  # noqa: SLF001 - as above.
            self._fetcher._records.move_to_end(partition)  # noqa: SLF001
            self._in_a_row = partition, 0

    async def _take(
        self, partition: TopicPartition, count: int, count_max: int, size_max: int
    ) -> Mapping[TopicPartition, list[KafkaRecord]]:
        """What is there of one partition: the client drops what it unpacked before a fault, also of other partitions
        if it is asked for several. Its position is then where it was."""
        try:
            taken: dict[TopicPartition, list[KafkaRecord]] = await super().getmany(partition, max_records=count)
        except _UNREADABLE:
            return await self._read_leniently(partition, count_max, size_max)
        return taken

    async def _wait(
        self, partitions: Sequence[TopicPartition], timeout_ms: int, count_max: int
    ) -> Mapping[TopicPartition, list[KafkaRecord]]:
        """The first record that comes: one, so that a fault finds nothing unpacked that could be dropped."""
        try:
            taken: dict[TopicPartition, list[KafkaRecord]] = await super().getmany(
                *partitions, timeout_ms=timeout_ms, max_records=1
            )
        except _UNREADABLE:
            partition = self._buffered(partitions)
            if partition is None:
                raise
            return await self._read_leniently(partition, count_max, POLL_BYTES_MAX)
        return taken

    def _position(self, partition: TopicPartition) -> int | None:
        subscription = self._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        if assignment is None or partition not in assignment.tps:
            return None
        state = assignment.state_value(partition)
        return state.position if state.has_valid_position else None

    async def _read_leniently(
        self, partition: TopicPartition, count_max: int, size_max: int
    ) -> Mapping[TopicPartition, list[KafkaRecord]]:
        """What follows in a partition, fetched apart; undecodable bytes in the names of headers are escaped, and of a
        batch that expands to too much, what was not unpacked is reported by its offset.

        All of it is read so, not just the one record: where there is one there may be many, and each costs a fetch.
        """
        start = self._position(partition)
        if start is None:
            return {}
        unpacked = await self._fetch_leniently(partition, start)
        if self._position(partition) != start:
            # It was taken away meanwhile, and perhaps came back: its owner begins at what was committed.
            return {}
        taken: list[KafkaRecord] = []
        size = 0
        for record in unpacked:
            taken.append(record)
            size += record.size
            if len(taken) >= count_max or size >= size_max:
                break
        # It refers to itself, and what it has unpacked is too much to wait for the collector.
        unpacked._records_iterator = None  # noqa: SLF001
        if unpacked.next_fetch_offset == start:
            raise KafkaError(f"no record at {partition.topic}[{partition.partition}]@{start}")
        self.seek(partition, unpacked.next_fetch_offset)
        return {partition: taken} if taken else {}

    async def _fetch_leniently(self, partition: TopicPartition, offset: int) -> Any:
        """What the leader has from there on, at least one batch of it."""
        node = self._client.cluster.leader_for_partition(partition)
        if node is None or node == _NO_NODE:
            raise LeaderNotAvailableError(f"{partition.topic}[{partition.partition}]")
        wanted = [(partition.topic, [(partition.partition, offset, RECORD_BYTES_MAX)])]
        response = await self._client.send(node, FetchRequest(0, 1, RECORD_BYTES_MAX, READ_COMMITTED, wanted))
        ((_, ((_, error, _, *parts),)),) = response.topics
        if error:
            raise for_code(error)
        aborted = parts[_ABORTED_AT if response.API_VERSION > _LAST_WITHOUT_LOG_START else _ABORTED_AT - 1]
        return lenient_records(partition, parts[-1], aborted, offset)
