"""What it costs to refuse events that the handler cannot settle: calls of the handler, not time."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from rappen_contracts import decode
from services.chassis.consumer import Received, UnprocessableEvents
from services.chassis.database import Database
from services.chassis.kafka import KafkaRecord
from services.chassis.quarantine import Refused
from tests.support.events import usage_record
from tests.support.parts import usage_consumer

COUNT = 2_000


class Handler:
    """Settles events into memory, all or none. Those of `bad` it cannot; it says which, or that something failed."""

    def __init__(self, bad: set[int], *, naming: bool) -> None:
        self.bad, self.naming = bad, naming
        self.calls = 0
        self.settled: list[int] = []
        self.refused: list[Refused] = []

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        self.calls += 1
        faults = [entry for entry in events if entry.record.offset in self.bad]
        if faults and self.naming:
            raise UnprocessableEvents([(entry, "too large") for entry in faults])
        if faults:
            raise ArithmeticError("one of them")
        self.settled += [entry.record.offset for entry in events]
        self.refused += refused
        return refused


@pytest.mark.parametrize("share", [0.0005, 0.001, 0.05, 1.0])
async def test_events_that_a_handler_names_cost_one_call_more_however_many_they_are(share: float) -> None:
    handler = await _settled(share, naming=True)
    assert handler.calls == 2
    assert {entry.attempts for entry in handler.refused} == {1}


@pytest.mark.parametrize("share", [0.0005, 0.001, 0.05, 1.0])
async def test_unexpected_failures_cost_a_bounded_number_of_calls_per_refused_event(share: float) -> None:
    handler = await _settled(share, naming=False)
    bad = len(handler.bad)
    # A path of halves to each, as far as the paths are not the same, and its second try.
    assert handler.calls <= 2 * bad * (math.log2(COUNT / bad) + 3)


async def _settled(share: float, *, naming: bool) -> Handler:
    step = int(1 / share)
    bad = set(range(step // 2, COUNT, step)) if share < 1 else set(range(COUNT))
    handler = Handler(bad, naming=naming)
    # One key alone reaches no limit, so nothing is asked of the database.
    consumer = usage_consumer("127.0.0.1:1", Database("postgresql://127.0.0.1:1/none"), handler)
    await consumer._consume([_record(number) for number in range(COUNT)])
    assert sorted(handler.settled) == [number for number in range(COUNT) if number not in bad]
    assert sorted(entry.record.offset for entry in handler.refused) == sorted(bad)
    assert {entry.code for entry in handler.refused} == {"UNPROCESSABLE"}
    return handler


def _record(offset: int) -> KafkaRecord:
    made = usage_record("m", event_id=uuid4())
    value = made.value or b""
    assert decode(made.headers, value, now=datetime.now(UTC))
    return KafkaRecord("usage.recorded", 0, offset, 0, made.key, value, tuple(made.headers))
