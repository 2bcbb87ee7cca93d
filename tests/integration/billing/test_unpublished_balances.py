"""A balance that moved stays marked until it was published as it is, whatever moves it meanwhile."""

from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.domain import Posting
from services.billing.ledger.keys import AccountKey, ensure_accounts, ensure_mandates
from services.billing.ledger.unpublished import mark_published, read_unpublished
from services.billing.ledger.write_postings import write_postings
from services.billing.mandates.repository import lock_mandates
from services.chassis.clock import system_clock
from services.chassis.database import Database, begin, driver_connection
from tests.support.events import new_mandate


async def _account(connection: AsyncConnection) -> tuple[int, int]:
    mandate = new_mandate()
    mandate_no = (await ensure_mandates(connection, [mandate]))[mandate]
    key = AccountKey(mandate_no, "MANDATE")
    return mandate_no, (await ensure_accounts(connection, [key]))[key]


async def _move(connection: AsyncConnection, account: tuple[int, int]) -> None:
    """A credit of a micro-franc, in the caller's transaction."""
    mandate_no, account_no = account
    posting = Posting.own(
        mandate_no=mandate_no,
        event_id=uuid4(),
        member_account_no=account_no,
        posted_account_no=account_no,
        transaction_type="CREDIT",
        amount=1,
        contra_account="TAKE_OVER",
        reference_type="ADMIN",
        description="Test",
        occurred_at=system_clock(),
    )
    mandates = await lock_mandates(connection, [mandate_no])
    calendars = {no: mandate.calendar for no, mandate in mandates.items()}
    await write_postings(connection, [posting], calendars=calendars, now=system_clock())


async def _marked(connection: AsyncConnection, account: tuple[int, int]) -> list[asyncpg.Record]:
    rows = await read_unpublished(driver_connection(connection), 10_000)
    return [row for row in rows if (row["mandate_no"], row["no"]) == account]


async def test_a_mark_goes_when_the_balance_was_told(database: Database) -> None:
    async with database.reading() as connection:
        account = await _account(connection)
        assert await _marked(connection, account) == []
        for _ in range(3):
            async with begin(connection):
                await _move(connection, account)
        published = await _marked(connection, account)
        assert [row["seq"] for row in published] == [3]
        await mark_published(driver_connection(connection), published)
        assert await _marked(connection, account) == []


async def test_a_mark_stays_when_the_balance_has_moved_since_it_was_read(database: Database) -> None:
    async with database.reading() as connection:
        account = await _account(connection)
        async with begin(connection):
            await _move(connection, account)
        published = await _marked(connection, account)
        async with begin(connection):
            await _move(connection, account)
        await mark_published(driver_connection(connection), published)
        assert [row["seq"] for row in await _marked(connection, account)] == [2]


@pytest.mark.parametrize("committed", [True, False])
async def test_a_mark_stays_while_a_charge_holds_the_account(database: Database, committed: bool) -> None:
    """Nobody waits for the other, and what the charge moves is not forgotten, nor what it does not."""
    async with database.reading() as charging, database.reading() as publishing:
        account = await _account(charging)
        async with begin(charging):
            await _move(charging, account)
        published = await _marked(publishing, account)
        transaction = driver_connection(charging).transaction()
        await transaction.start()
        await _move(charging, account)
        await mark_published(driver_connection(publishing), published)
        await (transaction.commit() if committed else transaction.rollback())
        assert [row["seq"] for row in await _marked(publishing, account)] == [2 if committed else 1]
        await mark_published(driver_connection(publishing), await _marked(publishing, account))
        assert await _marked(publishing, account) == []
