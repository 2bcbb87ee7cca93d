"""The number of statements of a charge does not depend on the number of events in it."""

from typing import Any
from uuid import uuid4

from services.billing.charging.cancellation_event import CancellationEvent
from services.billing.charging.recent_events import GENERATION_MAX, RecentEvents
from services.billing.charging.usage_events import Usage
from services.billing.ledger.repository import _CLAIMED, CLAIMS_READ_MIN, claimed_digests, recorded_digests
from services.chassis.database import Database
from tests.support.charging import charging, received
from tests.support.databases import unseen
from tests.support.events import new_mandate, usage_record, voided_record
from tests.support.ledger import Books
from tests.support.stack import ServerPair
from tests.support.statements import CountedDatabase

SIZES = (1, 10, 100, 1000)


async def test_new_events_of_known_places_take_the_same_statements_whatever_their_number(
    database: Database, books: Books
) -> None:
    mandates, counted = [new_mandate() for _ in range(5)], CountedDatabase(database)
    charge = charging(counted)
    await charge(_batch(mandates, 100), [])
    statements = {}
    for size in SIZES:
        counted.calls.clear()
        await charge(_batch(mandates, size), [])
        statements[size] = list(counted.calls)
    assert len({tuple(calls) for calls in statements.values()}) == 1, statements
    assert len(statements[1]) <= 10
    # The rows of the ledger are written by COPY, which is counted like any statement.
    assert statements[1].count("copy_to_table") == 1
    assert await books.charged(mandates) == 100 + sum(SIZES)


async def test_a_batch_of_repeats_takes_the_same_statements_whatever_their_number(
    database: Database, books: Books
) -> None:
    mandates, counted = [new_mandate()], CountedDatabase(database)
    charge = charging(counted)
    known = _batch(mandates, max(SIZES))
    await charge(known, [])
    statements = {}
    for size in SIZES:
        counted.calls.clear()
        await charge([*known[:size], *_batch(mandates, 1)], [])
        statements[size] = len(counted.calls)
    assert len(set(statements.values())) == 1, statements
    assert await books.charged(mandates) == max(SIZES) + len(SIZES)


async def test_repeats_of_what_the_worker_has_just_charged_cost_no_second_try(database: Database, books: Books) -> None:
    mandates, counted = [new_mandate() for _ in range(3)], CountedDatabase(database)
    charge = charging(counted)
    known = _batch(mandates, 50)
    parked = _batch(mandates, 2, cost=None, tokens={"input": 1}, model=f"model-{uuid4()}")
    await charge([*known, *parked], [])
    counted.calls.clear()
    await charge([*_batch(mandates, 100), *known[:3], *parked], [])
    assert counted.calls.count("copy_to_table") == 1
    assert (await books.charged(mandates), await books.parked(mandates)) == (150, 2)
    # Another worker knows nothing of them, and finds them by their key.
    other = CountedDatabase(database)
    await charging(other)([*_batch(mandates, 100), *known[:3], *parked], [])
    assert other.calls.count("copy_to_table") == 2
    assert (await books.charged(mandates), await books.parked(mandates)) == (250, 2)


def test_of_recent_events_the_older_are_forgotten() -> None:
    recent = RecentEvents()
    ids = [number.to_bytes(16, "big") for number in range(4 * GENERATION_MAX)]
    for at in range(0, len(ids), 4_000):
        recent.remember(ids[at : at + 4_000])
        assert ids[at] in recent
    assert all(event_id in recent for event_id in ids[-GENERATION_MAX:])
    assert sum(event_id in recent for event_id in ids) <= 2 * GENERATION_MAX + 4_000


async def test_new_mandates_members_and_models_take_the_same_statements_whatever_their_number(
    database: Database, books: Books
) -> None:
    counted = CountedDatabase(database)
    charge = charging(counted)
    await charge(_batch([new_mandate()], 1), [])
    statements = {}
    for size in SIZES:
        mandates = [new_mandate() for _ in range(size)]
        counted.calls.clear()
        await charge(_batch(mandates, size, model=f"model-{uuid4()}"), [])
        statements[size] = len(counted.calls)
        assert await books.charged(mandates) == size
    assert len(set(statements.values())) == 1, statements


async def test_events_without_a_price_take_the_same_statements_whatever_their_number(
    database: Database, books: Books
) -> None:
    mandates, counted = [new_mandate()], CountedDatabase(database)
    charge = charging(counted)
    unpriced = {"cost": None, "tokens": {"input": 1}, "model": f"model-{uuid4()}"}
    await charge(_batch(mandates, 3, **unpriced), [])
    statements = {}
    for size in SIZES:
        counted.calls.clear()
        await charge(_batch(mandates, size, **unpriced), [])
        statements[size] = list(counted.calls)
    assert len({tuple(calls) for calls in statements.values()}) == 1, statements
    assert await books.parked(mandates) == 3 + sum(SIZES)


async def test_cancellations_take_the_same_statements_whatever_their_number(database: Database, books: Books) -> None:
    mandates, counted = [new_mandate() for _ in range(5)], CountedDatabase(database)
    charge = charging(counted)
    await charge(_batch(mandates, 100), [])
    statements = {}
    for size in SIZES:
        usage = [usage_record(mandates[n % 5], "user-1") for n in range(2 * size)]
        # One half of it is there before, the other comes with its cancellation.
        await charge(received(usage[:size]), [])
        voids = [voided_record(mandates[n % 5], record.event_id) for n, record in enumerate(usage)]
        counted.calls.clear()
        await charge(received([*usage[size:], *voids]), [])
        statements[size] = list(counted.calls)
    assert len({tuple(calls) for calls in list(statements.values())[1:]}) == 1, statements
    # The first marks its mandates, which the later ones find marked.
    assert len(statements[1]) <= len(statements[10]) + 1 <= 30
    assert await books.pool(mandates[0]) == -20 * 15_000


async def test_only_mandates_with_cancellations_pay_for_them(database: Database) -> None:
    plain, cancelling, counted = new_mandate(), new_mandate(), CountedDatabase(database)
    charge = charging(counted)
    await charge([*_batch([plain], 5), *_batch([cancelling], 5)], [])
    await charge(received([voided_record(cancelling, uuid4())]), [])
    calls = {}
    for name, mandates in {"plain": [plain], "cancelling": [cancelling], "both": [plain, cancelling]}.items():
        counted.calls.clear()
        await charge(_batch(mandates, 4), [])
        calls[name] = len(counted.calls)
    # Its usage is looked up among what was claimed without a posting, and among what was cancelled; and in the end the
    # database is asked which balances are low, because what was cancelled moves them again.
    assert calls["cancelling"] == calls["both"] == calls["plain"] + 3


async def test_claims_are_found_among_many_events_wherever_their_ids_lie(database: Database, books: Books) -> None:
    mandates = [new_mandate(), new_mandate()]
    unpriced = {"cost": None, "tokens": {"input": 1}, "model": f"model-{uuid4()}"}
    # In one mandate more claims lie between the ids than are read at once, in the other a few.
    parked = [*_batch(mandates[:1], 2 * CLAIMS_READ_MIN, **unpriced), *_batch(mandates[1:], 5, **unpriced)]
    charge = charging(database)
    await charge(parked, [])
    await charge(_batch(mandates, 10), [])
    claimed = sorted(usage.identity for usage in parked if isinstance(usage, Usage))
    of_few = [identity for identity in claimed if identity[0] == claimed[-1][0]]
    no_claims = [(no, uuid4().bytes) for no in {no for no, _ in claimed} for _ in range(20)]
    async with database.reading() as connection:
        for asked in (claimed, claimed[:1], claimed[-1:], of_few, [*of_few, *no_claims], no_claims, []):
            expected = await recorded_digests(connection, "unposted_events", asked)
            assert await claimed_digests(connection, asked) == expected
            assert expected.keys() == set(asked) & set(claimed)
    assert await books.parked(mandates) == len(claimed)


async def test_claims_are_found_by_their_key_also_where_all_are_of_one_mandate(servers: ServerPair) -> None:
    async with unseen(servers.admin_dsn, schema="billing") as connection:
        await connection.execute("DELETE FROM unposted_events")
        await connection.execute(
            "INSERT INTO unposted_events (mandate_no, event_id, digest, reason, detail, occurred_at, recorded_at,"
            " price_revision) SELECT 0, gen_random_uuid(), '', 'FREE', '', now(), now(), 0"
            " FROM generate_series(1, 50_000)"
        )
        await connection.execute("ANALYZE unposted_events")
        # As all of billing's statements are planned: for any values.
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE claimed (int[], uuid[], uuid[], bigint) AS {_CLAIMED}")
        plan = await connection.fetch("EXPLAIN EXECUTE claimed (NULL, NULL, NULL, NULL)")
        read = [line for (line,) in plan if "on unposted_events" in line]
        assert len(read) == 1
        assert "Index Scan using pk_unposted_events" in read[0]


def _batch(mandates: list[str], size: int, **data: Any) -> list[Usage | CancellationEvent]:
    records = [usage_record(mandates[n % len(mandates)], f"user-{n % 3}", **data) for n in range(size)]
    return received(records)
