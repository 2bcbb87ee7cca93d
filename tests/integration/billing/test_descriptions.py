"""The descriptions of usage are kept once for what the usage was for, whoever charges it and whatever becomes of it."""

import asyncio

from services.billing.ledger.descriptions import KEPT_MAX, Described, keep_descriptions
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.charging import charge, charging, received
from tests.support.events import new_mandate, usage_record
from tests.support.holding import Holding, usage_event
from tests.support.ledger import Books
from tests.support.statements import CountedDatabase
from tests.support.used import made


async def kept(books: Books, mandate: str) -> list[tuple[str, str | None]]:
    """The models and descriptions of a mandate."""
    rows = await books.fetch(
        "SELECT d.model, u.description FROM usage_descriptions u JOIN mandates m ON m.no = u.mandate_no"
        " JOIN dimensions d ON d.mandate_no = m.no AND d.no = u.dimension_no WHERE m.id = $1",
        mandate,
    )
    return sorted(
        ((row["model"], row["description"]) for row in rows), key=lambda each: (each[0], each[1] is None, each)
    )


async def test_each_description_of_a_model_is_kept_once(database: Database, books: Books) -> None:
    mandate = new_mandate()
    said = [("a", "Read"), ("a", "Read"), ("a", None), ("b", "Read"), ("b", "read"), ("a", "")]
    await charge(database, *(usage_record(mandate, model=model, description=text) for model, text in said))
    await charge(database, usage_record(mandate, model="a", description="Read"))
    assert await kept(books, mandate) == [("a", ""), ("a", "Read"), ("b", "Read"), ("b", "read")]
    assert not await books.failing()


async def test_of_too_many_it_is_kept_that_they_are_many(database: Database, books: Books) -> None:
    mandate = new_mandate()
    await charge(database, *(usage_record(mandate, model="a", description=f"Of {n}") for n in range(KEPT_MAX)))
    assert len(await kept(books, mandate)) == KEPT_MAX
    for more in ("One more", "And another"):
        await charge(database, usage_record(mandate, model="a", description=more))
        found = await kept(books, mandate)
        assert (len(found), found[-1]) == (KEPT_MAX + 1, ("a", None))
    await charge(database, *(usage_record(mandate, model="b", description=f"Of {n}") for n in range(KEPT_MAX + 1)))
    assert (await kept(books, mandate))[KEPT_MAX + 1 :] == [("b", None)]
    assert not await books.failing()


async def test_a_worker_asks_once_for_what_it_has_seen(database: Database) -> None:
    counted = CountedDatabase(database)
    mandate, worker = new_mandate(), charging(counted)
    sent = []
    for texts in ((None, None), (None, None), ("Read", "Write"), ("Write", "Read"), ("Read", "Ask"), ("Ask", "Write")):
        counted.calls.clear()
        await worker(received(usage_record(mandate, description=text) for text in texts), [])
        sent.append(len(counted.calls))
    _, undescribed, *described = sent
    # What is new is read and written in a transaction of its own.
    assert [count > undescribed for count in described] == [True, False, True, False]
    assert described[1] == described[3] == undescribed


async def test_of_a_dimension_that_has_many_only_those_are_read_that_are_asked_for(
    database: Database, books: Books
) -> None:
    mandate = new_mandate()
    texts = [f"Of {number}" for number in range(KEPT_MAX)]
    await charge(database, *(usage_record(mandate, model="a", description=text) for text in texts))
    await charge(database, *(usage_record(mandate, model="b", description=text) for text in [*texts, "One more"]))
    a, b = await books.fetch(
        "SELECT d.mandate_no, d.no FROM dimensions d JOIN mandates m ON m.no = d.mandate_no WHERE m.id = $1"
        " ORDER BY d.model",
        mandate,
    )
    async with database.transaction() as connection:
        # All of a batch can be some ten megabytes, more than a worker remembers: each batch would read them anew.
        assert await keep_descriptions(connection, [Described(*a, "Of 7")]) == [Described(*a, "Of 7")]
        found = await keep_descriptions(
            connection, [Described(*a, "Of 8"), Described(*b, "New"), Described(*b, "Of 9")]
        )
        assert set(found) == {Described(*a, "Of 8"), Described(*b, None)}
        found = await keep_descriptions(connection, [Described(*a, "New"), Described(*a, "Of 8")])
        assert set(found) == {Described(*a, "Of 8"), Described(*a, None)}


async def test_two_that_keep_the_same_wait_for_each_other(database: Database, books: Books) -> None:
    mandate = new_mandate()
    await charge(database, usage_record(mandate, model="a"), usage_record(mandate, model="b"))
    rows = await books.fetch(
        "SELECT d.mandate_no, d.no FROM dimensions d JOIN mandates m ON m.no = d.mandate_no WHERE m.id = $1", mandate
    )
    given = [Described(*row, text) for row in rows for text in ("Read", "Write", "Ask")]

    async def keep(order: list[Described]) -> None:
        async with database.transaction() as connection:
            await keep_descriptions(connection, order)
            await asyncio.sleep(0.05)

    await asyncio.gather(*(keep(given if number % 2 else given[::-1]) for number in range(4)))
    assert [text for _, text in await kept(books, mandate)] == ["", "Ask", "Read", "Write"] * 2


async def test_two_that_keep_the_same_at_once_do_not_count_it_twice(database: Database, books: Books) -> None:
    mandate = new_mandate()
    await charge(database, usage_record(mandate, model="a"))
    (row,) = await books.fetch(
        "SELECT d.mandate_no, d.no FROM dimensions d JOIN mandates m ON m.no = d.mandate_no WHERE m.id = $1", mandate
    )
    given = [Described(*row, f"Of {number}") for number in range(KEPT_MAX - 1)]

    async def keep() -> None:
        async with database.transaction() as connection:
            await keep_descriptions(connection, given)
            await asyncio.sleep(0.05)

    await asyncio.gather(keep(), keep())
    found = await kept(books, mandate)
    assert (len(found), None in [text for _, text in found]) == (KEPT_MAX, False)


async def test_who_keeps_a_description_and_stands_still_holds_up_no_other_mandate(
    api: BillingApi, database: Database, books: Books
) -> None:
    one, other = Holding(api, books, await made(database)), Holding(api, books, await made(database))
    await one.credit(10)
    await other.credit(10)
    await charge(database, usage_record(one.mandate, model="a"))
    (row,) = await books.fetch(
        "SELECT d.mandate_no, d.no FROM dimensions d JOIN mandates m ON m.no = d.mandate_no WHERE m.id = $1",
        one.mandate,
    )
    hold = await one.hold()
    async with database.transaction() as connection:
        await keep_descriptions(connection, [Described(*row, "Read")])
        event = usage_event(one.mandate, model="a", description="Read", hold_id=hold)
        capture = asyncio.create_task(one.capture(hold, event=event))
        await asyncio.sleep(0.3)
        await asyncio.wait_for(other.hold(), 3)
        assert not capture.done()
    assert (await capture).status_code == 200
    assert await kept(books, one.mandate) == [("a", ""), ("a", "Read")]
