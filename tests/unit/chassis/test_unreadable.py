"""A record at which reading itself fails is refused alone: otherwise it would hold up its partition for ever."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from services.chassis.consumer import Consumer, Received, received
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health
from services.chassis.kafka import KafkaRecord
from services.chassis.quarantine import Refused
from services.chassis.settings import KafkaSettings
from tests.support.events import usage_record
from tests.support.records import arrived_record

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def _reader(now: datetime) -> Callable[[KafkaRecord], Any]:
    read = received(now)

    def reading(record: KafkaRecord) -> Any:
        if record.key == b"broken":
            raise RuntimeError("placed")
        return read(record)

    return reading


async def test_a_record_at_which_reading_fails_is_refused_beside_its_neighbours() -> None:
    settled: list[tuple[list[Received], list[Refused]]] = []

    async def settle(events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        settled.append((list(events), list(refused)))
        return []

    consumer = Consumer(
        KafkaSettings(bootstrap_servers="localhost:1"),
        client_id="test",
        group="test",
        topic="usage.recorded",
        handler=settle,
        database=Database("postgresql://localhost:1/none"),
        clock=lambda: NOW,
        faults=FaultPoints(None),
        health=Health(),
        reader=_reader,
    )
    records = [
        arrived_record("usage.recorded", usage_record(mandate, at=NOW))._replace(key=mandate.encode())
        for mandate in ("one", "broken", "two")
    ]
    await consumer._consume(records)
    ((events, refused),) = settled
    assert [received.record.key for received in events] == [b"one", b"two"]
    assert [(entry.record.key, entry.code, entry.detail) for entry in refused] == [
        (b"broken", "UNPROCESSABLE", "RuntimeError")
    ]
