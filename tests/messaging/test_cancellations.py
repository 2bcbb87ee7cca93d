"""Cancellations on Kafka, through a real worker process: before and after their usage, in every form of a record."""

from uuid import uuid4

from tests.support.events import RawRecord, new_mandate, publish, structured_record, usage_record, voided_record
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess
from tests.support.waiting import eventually

USAGE = "rappen_events_consumed_total"


async def test_usage_and_its_cancellation_leave_nothing_behind_but_their_rows(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    before, after, together, kept = (usage_record(mandate, amount="0.10") for _ in range(4))
    await publish(bootstrap_servers, [voided_record(mandate, before.event_id), after, kept])
    await books.wait_charged([mandate], 2)
    counted = await worker.metric(USAGE, topic="usage.recorded", outcome="cancelled")
    voided = voided_record(mandate, after.event_id)
    again = voided_record(mandate, after.event_id, "for another reason")
    in_json = structured_record(voided_record(mandate, together.event_id), b"application/cloudevents+json")
    await publish(bootstrap_servers, [before, voided, again, voided, together, in_json, before])
    await books.wait_charged([mandate], 4)
    await eventually(lambda: _cancelled(books, mandate, 3), what="three cancellations")
    assert await books.pool(mandate) == -150_000
    rows = await books.fetch(
        "SELECT r.cost, r.count FROM rollups r JOIN mandates m ON m.no = r.mandate_no WHERE m.id = $1", mandate
    )
    assert [tuple(row) for row in rows] == [(150_000, 1)]
    assert await worker.metric(USAGE, topic="usage.recorded", outcome="cancelled") == counted + 2
    assert await books.refused(mandate) == {}
    assert await books.failing() == {}
    # The balance that is published is the one after the reversals.
    await books.relayed()


async def test_a_cancellation_that_cannot_be_or_contradicts_is_a_dead_letter_and_holds_nobody_up(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate, used = new_mandate(), uuid4()
    usage = usage_record(mandate, amount="0.10")
    first = voided_record(mandate, usage.event_id, "first", event_id=used)
    other = voided_record(mandate, usage.event_id, "second", event_id=used)
    own = voided_record(mandate, usage.event_id, event_id=usage.event_id)
    no_reason = voided_record(mandate, usage.event_id, "")
    no_object = RawRecord(b"[]", first.headers, mandate.encode())
    await publish(bootstrap_servers, [usage, first, other, own, no_reason, no_object, usage_record(mandate)])
    await books.wait_charged([mandate], 2)
    expected = {"CONFLICT": 2, "TOO_SHORT": 1, "NOT_AN_OBJECT": 1}
    await eventually(lambda: _refused(books, mandate, expected), what="four dead letters")
    assert await books.cancelled([mandate]) == {usage.event_id}
    assert await books.failing() == {}


async def _cancelled(books: Books, mandate: str, count: int) -> bool:
    return len(await books.cancelled([mandate])) == count


async def _refused(books: Books, mandate: str, expected: dict[str, int]) -> bool:
    return await books.refused(mandate) == expected
