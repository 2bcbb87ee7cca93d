"""The live feed of this process: one reader of the topics while somebody listens, and a queue for each who does.

Nothing is stored for it: the topics are the store, and the id of an event says where in them a stream goes on. So a
stream that was interrupted misses nothing; of `balance.changed`, which is compacted, it gets what is newest.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiokafka.errors import KafkaError

from rappen_contracts import ContractError, decode
from rappen_contracts.billing.v1 import BalanceChanged
from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.logging import get_logger
from services.chassis.settings import KafkaSettings
from services.gateway.feed.domain import PLACES, Positions, Update, mandate_of_key, updates_of
from services.gateway.feed.errors import FeedUnavailable, TooManyStreams
from services.gateway.feed.tail import FeedRecord, Tail

__all__ = ["Listener", "LiveFeed", "Sent"]

POLL_MS: Final = 1_000
RETRY_S: Final = 1.0
# A listener who does not take this many is let go, and goes on from its last event when it comes again.
QUEUE_MAX: Final = 1_000
STREAMS_PER_CALLER: Final = 10
# Streams that catch up at the same time; each reads what was written since its last event.
CATCHING_UP_MAX: Final = 4
KNOWN_ACCOUNTS_MAX: Final = 100_000

_log = get_logger(__name__)

# An event for a listener, with the positions from which a stream goes on that ended after it.
Sent = tuple[Update, Positions]


class Listener:
    """Somebody who listens, and what they have not been sent yet. `caller` is renewed while they listen."""

    def __init__(self, caller: Caller, mandate_id: str | None, positions: Positions) -> None:
        self.caller = caller
        self.mandate_id = mandate_id
        # Where the feed was when they came.
        self.began = positions
        # None ends the stream.
        self.queue: asyncio.Queue[Sent | None] = asyncio.Queue(QUEUE_MAX)
        self.let_go = False

    def wants(self, mandate_id: str) -> bool:
        """Whether records of that mandate are for them, as far as their keys tell."""
        if self.mandate_id is not None:
            return mandate_id == self.mandate_id
        return self.caller.system_admin or mandate_id in self.caller.mandates

    def offer(self, update: Update, positions: Positions) -> None:
        """Gives them an event, if it is in their scope."""
        if self.let_go or not self.wants(update.mandate_id) or not update.visible_to(self.caller):
            return
        if self.queue.qsize() >= QUEUE_MAX - 1:
            self.end()
        else:
            self.queue.put_nowait((update, positions))

    def end(self) -> None:
        """Ends their stream after what they have been offered."""
        if not self.let_go:
            self.let_go = True
            self.queue.put_nowait(None)


class LiveFeed:
    """A component of the process: it reads while somebody listens, and ends all streams when the process stops."""

    name = "feed"

    def __init__(self, kafka: KafkaSettings, *, client_id: str, streams_max: int, clock: Clock) -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._streams_max = streams_max
        self._clock = clock
        self._listeners: set[Listener] = set()
        self._streams: Counter[str] = Counter()
        self._reading: asyncio.Task[None] | None = None
        self._positions: Positions | None = None
        self._starting = asyncio.Lock()
        self._catching_up = asyncio.Semaphore(CATCHING_UP_MAX)
        self._stopping = False
        # Of the reader: nobody waits for its task, so what it raised ends the process by way of `run`.
        self._failed = asyncio.Event()
        self._error: Exception | None = None
        # How many transactions each account had when it was last told of; the oldest first.
        self._transactions: OrderedDict[str, int] = OrderedDict()

    async def run(self, stop: asyncio.Event) -> None:
        """Waits for the end of the process, and then ends every stream; raises what the reader raised."""
        ends = [asyncio.create_task(event.wait()) for event in (stop, self._failed)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        self._stopping = True
        for listener in self._listeners:
            listener.end()
        await self._stop_reading()
        if self._error is not None:
            raise self._error

    @asynccontextmanager
    async def listen(self, caller: Caller, mandate_id: str | None) -> AsyncIterator[Listener]:
        """Somebody listens from now on; raises `TooManyStreams` and `FeedUnavailable`."""
        if len(self._listeners) >= self._streams_max or self._streams[caller.user_id] >= STREAMS_PER_CALLER:
            raise TooManyStreams(headers={"Retry-After": "5"})
        self._streams[caller.user_id] += 1
        listener = None
        try:
            listener = Listener(caller, mandate_id, await self._now())
            self._listeners.add(listener)
            yield listener
        finally:
            self._streams[caller.user_id] -= 1
            if not self._streams[caller.user_id]:
                del self._streams[caller.user_id]
            if listener is not None:
                self._listeners.discard(listener)
            if not self._listeners:
                await self._stop_reading()

    async def missed(self, listener: Listener, since: Positions) -> AsyncGenerator[Sent, None]:
        """What a listener missed from the given positions on, up to where they began to listen."""
        # A position past the end is that of a topic that is no more: its successor is read from the beginning.
        ends = listener.began.next
        positions = Positions({place: at if at <= ends[place] else 0 for place, at in since.next.items()})
        if not positions.behind(listener.began):
            return
        # What others were told of meanwhile is news to them.
        known: OrderedDict[str, int] = OrderedDict()
        async with self._catching_up, Tail(self._kafka, PLACES, client_id=f"{self._client_id}-again") as tail:
            tail.read_from(positions)
            while behind := positions.behind(listener.began):
                records = await tail.read(timeout_ms=POLL_MS)
                for record in records:
                    if record.offset >= ends[record.place]:
                        continue
                    before, positions = positions, positions.after(record.place, record.offset)
                    for sent in _with_positions(self._updates(record, [listener], known), before, positions):
                        if sent[0].visible_to(listener.caller):
                            yield sent
                for place in behind:
                    # Offsets that compaction or retention removed are never read.
                    passed = max(positions.next[place], await tail.position(place))
                    positions = Positions({**positions.next, place: min(passed, ends[place])})

    async def _now(self) -> Positions:
        """Where the feed is; begins to read where nobody listened before."""
        async with self._starting:
            if self._stopping:
                raise FeedUnavailable
            if self._reading is None or self._reading.done():
                tail = await Tail(self._kafka, PLACES, client_id=self._client_id).__aenter__()
                try:
                    self._positions = await tail.ends()
                    tail.read_from(self._positions)
                except BaseException:
                    await tail.__aexit__()
                    raise
                self._reading = asyncio.create_task(self._read(tail), name="feed-reader")
            assert self._positions is not None  # noqa: S101 - set before the task is.
            return self._positions

    async def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, tail: Tail) -> None:
        try:
            while True:
                try:
                    records = await tail.read(timeout_ms=POLL_MS)
                except (OSError, KafkaError) as error:
                    # The client finds its broker again; meanwhile streams are open and nothing is lost.
                    _log.warning("feed does not read", error=type(error).__name__)
                    await asyncio.sleep(RETRY_S)
                    continue
                for record in records:
                    self._hand_on(record)
        except Exception as error:  # noqa: BLE001 - it is raised where the process sees it.
            self._error = error
            self._failed.set()
        finally:
            await tail.__aexit__()

    def _hand_on(self, record: FeedRecord) -> None:
        assert self._positions is not None  # noqa: S101 - reading begins with them.
        before, self._positions = self._positions, self._positions.after(record.place, record.offset)
        updates = self._updates(record, self._listeners, self._transactions)
        for update, positions in _with_positions(updates, before, self._positions):
            for listener in self._listeners:
                listener.offer(update, positions)

    def _updates(self, record: FeedRecord, listeners: Iterable[Listener], known: OrderedDict[str, int]) -> list[Update]:
        """What a record tells those who know of so many transactions of accounts, the oldest first, which is noted; one
        of a mandate to which nobody listens is not even parsed."""
        mandate_id = mandate_of_key(record.key)
        if not any(listener.wants(mandate_id) for listener in listeners):
            return []
        try:
            event = decode(record.headers, record.value, now=self._clock())
        except ContractError as error:
            _log.warning("event of the feed cannot be read", topic=record.place[0], code=error.code)
            return []
        updates = updates_of(event.data, known_transactions=known)
        if isinstance(event.data, BalanceChanged) and event.data.rows is not None:
            known[event.data.account_id] = event.data.rows
            known.move_to_end(event.data.account_id)
            if len(known) > KNOWN_ACCOUNTS_MAX:
                known.popitem(last=False)
        return updates


def _with_positions(updates: Sequence[Update], before: Positions, after: Positions) -> Iterator[Sent]:
    """The events of a record, which has been read with the last of them: a stream that ended between two gets all of
    them again."""
    for number, update in enumerate(updates, start=1):
        yield update, after if number == len(updates) else before
