"""A limit for dead letters: where almost all of a topic is refused, its consumer stops until an operator resumes it.

A bad release of ours, or a topic that carries something else, would otherwise put a whole backlog into quarantine. A
consumer therefore counts over a run of records: how many were settled, and how many refused. A new run begins as soon
as the refused are less than `dead_letter_share` of it, and the consumer stops when it holds `dead_letter_run` refused
ones. What was refused until then is in quarantine as ever; what comes after stays in Kafka, with its offsets.

One bad publisher must not stop everybody else by this. While others publish, their records keep the share down. While
they do not, one publisher is all there is of the topic, and its records alone are no evidence that the fault is ours:
so a key counts for at most `dead_letter_run / dead_letter_keys`, and fewer than `dead_letter_keys` keys never stop
anything, however many records they have. The key is the mandate; a record without a key counts under one key with all
others of its kind. A service account may name any mandate, so keys do not limit what it publishes through the gateway.
But what the gateway takes can be read, and is refused only for what it says, as when it contradicts a recorded event:
such refusals (`Refused.publishers_fault`) count neither as refused nor as settled. Nothing protects against a publisher
that writes to Kafka directly and gives unreadable records many keys: only services of the platform have that right, and
from here their faults look like ours. Then the topic stops, nobody's record is lost, and an operator sees why.

The stop is a row in the service's database, so that a restart does not begin to refuse again, and every worker of the
group stops. Runs are counted by each worker in memory, from what was committed: what a handler returns as refused.
A worker refuses one run, and the rest of its batch, before it stops; a redelivery after a crash refuses nothing twice.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.clock import Clock
from services.chassis.database import Database, is_transient
from services.chassis.logging import get_logger
from services.chassis.metrics import CONSUMER_STOPPED
from services.chassis.quarantine import Refused
from services.chassis.settings import KafkaSettings

__all__ = ["DeadLetterLimit", "RefusedRun", "read_stopped", "resume", "stopped_consumers_table"]

# A database that stands still holds up neither the watch over the consumer nor its end.
LOOK_TIMEOUT_S = 5.0

_log = get_logger(__name__)


def stopped_consumers_table(metadata: sa.MetaData) -> sa.Table:
    """The table of stops, one row a group and topic: the newest, and when and by whom it was ended."""
    return sa.Table(
        "stopped_consumers",
        metadata,
        sa.Column("group_id", sa.Text, primary_key=True),
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resumed_at", sa.DateTime(timezone=True)),
        sa.Column("resumed_by", sa.Text),
    )


# As the service's own role sees it, whose search path is its schema.
_stopped = stopped_consumers_table(sa.MetaData())


async def read_stopped(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    """The topics that this service does not read now: `topic`, `reason`, `stopped_at`."""
    rows: list[asyncpg.Record] = await connection.fetch(
        "SELECT topic, reason, stopped_at FROM stopped_consumers WHERE resumed_at IS NULL ORDER BY topic"
    )
    return rows


async def resume(connection: asyncpg.Connection, topic: str, *, by: str, now: datetime) -> bool:
    """Has the workers read the topic again, within seconds; False where it is not stopped."""
    resumed = await connection.fetchval(
        "UPDATE stopped_consumers SET resumed_at = $2, resumed_by = $3"
        " WHERE topic = $1 AND resumed_at IS NULL RETURNING true",
        topic,
        now,
        by,
    )
    return resumed is not None


class RefusedRun:
    """Counts the settled and the refused records of a run, until almost all of them are refused ones."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._share = settings.dead_letter_share
        self._length = settings.dead_letter_run
        self._of_one_key = settings.dead_letter_run // settings.dead_letter_keys
        self.clear()

    def clear(self) -> None:
        """Begins a new run."""
        self._settled = self._counted = 0
        # By the hash of a key, because a key may be large; it is another in each process, so none can be made to fit.
        self._by_key: Counter[int] = Counter()
        self._codes: Counter[str] = Counter()

    def add(self, records: int, refused: Sequence[Refused]) -> bool:
        """Adds a batch: the number of its records, and those refused among them. Returns whether the limit is
        reached."""
        self._settled += records - len(refused)
        for entry in [each for each in refused if not each.publishers_fault]:
            key = hash(entry.record.key)
            self._by_key[key] += 1
            self._counted += self._by_key[key] <= self._of_one_key
            self._codes[entry.code] += 1
        if self._counted < self._share * (self._settled + self._counted):
            self.clear()
        return self._counted >= self._length

    def __str__(self) -> str:
        refused = self._codes.total()
        most = self._codes.most_common(1)
        code = f", most of them as {most[0][0]}" if most else ""
        return f"{refused} of {self._settled + refused} records on end were refused{code}"


class DeadLetterLimit:
    """Whether one consumer may read. It may not until `look` has found out for the first time."""

    def __init__(self, settings: KafkaSettings, database: Database, *, group: str, topic: str, clock: Clock) -> None:
        self._database = database
        self._group = group
        self._topic = topic
        self._clock = clock
        self._run = RefusedRun(settings)
        self._looking = asyncio.Lock()
        # A stop of this consumer's own that is not in the database yet.
        self._unsaved: str | None = None
        self._resumed_at: datetime | None = None
        # Set while records may be read.
        self.reading = asyncio.Event()
        # The reason for the stop, once a limit was reached.
        self.stopped: str | None = None
        CONSUMER_STOPPED.labels(topic).set(0)

    async def add(self, records: int, refused: Sequence[Refused]) -> None:
        """Adds a settled batch. At the limit nothing more is read; a database that is away learns of it later."""
        if self._run.add(records, refused):
            self._unsaved = str(self._run)
            self._stop(self._unsaved)
            await self.look()

    async def look(self) -> None:
        """Follows the stops in the database: of this worker, of others of its group, and the operator's resuming."""
        async with self._looking:
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S), self._database.reading() as connection:
                    if self._unsaved is not None:
                        await self._save(connection, self._unsaved)
                        self._unsaved = None
                    found = await connection.execute(
                        sa.select(_stopped.c.reason, _stopped.c.resumed_at).where(
                            _stopped.c.group_id == self._group, _stopped.c.topic == self._topic
                        )
                    )
                    row = found.one_or_none()
            except Exception as error:
                if not is_transient(error):
                    raise
                _log.warning("stops unknown", topic=self._topic, error=type(error).__name__)
                return
            if row is not None and row.resumed_at is None:
                self._stop(row.reason)
            elif self._unsaved is None:
                self._read(None if row is None else row.resumed_at)

    async def _save(self, connection: AsyncConnection, reason: str) -> None:
        """Writes a stop; one that another worker wrote just before stands."""
        new = insert(_stopped).values(group_id=self._group, topic=self._topic, reason=reason, stopped_at=self._clock())
        await connection.execute(
            new.on_conflict_do_update(
                index_elements=[_stopped.c.group_id, _stopped.c.topic],
                set_={
                    "reason": new.excluded.reason,
                    "stopped_at": new.excluded.stopped_at,
                    "resumed_at": None,
                    "resumed_by": None,
                },
                where=_stopped.c.resumed_at.is_not(None),
            )
        )

    def _stop(self, reason: str) -> None:
        self.reading.clear()
        CONSUMER_STOPPED.labels(self._topic).set(1)
        if self.stopped is None:
            command = f"rappen dlq --service {self._group} resume {self._topic}"
            self.stopped = f"stopped, because {reason}; when the cause is mended: {command}"
            _log.error("consumer stopped", topic=self._topic, reason=reason, resume=command)

    def _read(self, resumed_at: datetime | None) -> None:
        """Reads, or goes on reading. What was counted before a resuming counts no more."""
        if resumed_at != self._resumed_at:
            self._resumed_at = resumed_at
            self._run.clear()
        if self.stopped is not None:
            self._run.clear()
            _log.info("consumer resumed", topic=self._topic)
        self.stopped = None
        CONSUMER_STOPPED.labels(self._topic).set(0)
        self.reading.set()
