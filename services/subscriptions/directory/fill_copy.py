"""Fills this service's copy of the directory with what was published before the service kept all of it.

The consumer group goes on where it was, so what an earlier release passed over would never come. The topic is kept for
ever, and entries have versions: it is read once more from its beginning, beside the group, and changes nothing that is
as new.
"""

from collections.abc import Sequence

from aiokafka import ConsumerRecord

from rappen_contracts import ContractError, decode
from rappen_contracts.directory.v1 import DirectoryChanged
from rappen_contracts.registry import DIRECTORY_CHANGED_V1, source_topic
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.logging import get_logger
from services.chassis.settings import KafkaSettings
from services.chassis.whole_topics import read_whole_topic
from services.subscriptions.directory.repository import is_filled, note_filled, write_changes

__all__ = ["FillCopy"]

RECORDS_MAX = 1_000

_log = get_logger(__name__)


class FillCopy:
    """Each call fills the copy up to the end that the topic has when it begins, unless it was filled before. It
    returns 0, because there is nothing left to do then."""

    def __init__(self, database: Database, kafka: KafkaSettings, *, client_id: str, clock: Clock) -> None:
        self._database = database
        self._kafka = kafka
        self._client_id = client_id
        self._clock = clock
        self._filled = False

    async def __call__(self) -> int:
        """Reads and writes batch by batch; after a crash it begins anew. Raises what the client raises when the broker
        is away, `TimeoutError` when it gives nothing more."""
        if self._filled:
            return 0
        async with self._database.reading() as connection:
            self._filled = await is_filled(connection)
        if self._filled:
            return 0
        topic = source_topic(DIRECTORY_CHANGED_V1.name)
        read = await read_whole_topic(
            self._kafka, topic, self._write, client_id=self._client_id, records_max=RECORDS_MAX
        )
        async with self._database.transaction() as connection:
            await note_filled(connection, now=self._clock())
        self._filled = True
        _log.info("copy of the directory filled", records=read)
        return 0

    async def _write(self, records: Sequence[ConsumerRecord]) -> None:
        changes = [change for change in map(self._change, records) if change is not None]
        async with self._database.transaction() as connection:
            await write_changes(connection, changes)

    def _change(self, record: ConsumerRecord) -> DirectoryChanged | None:
        """The change in a record; None where it cannot be read, of which the group has said so (dead letters)."""
        try:
            data = decode(record.headers, record.value, now=self._clock()).data
        except ContractError:
            return None
        return data if isinstance(data, DirectoryChanged) else None
