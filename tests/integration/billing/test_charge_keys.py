"""The numbers that usage is booked under: what is there is found without a lock, what is missing is made."""

import asyncio
from decimal import Decimal

from services.billing.charging.charge_usage import Charges
from services.billing.charging.usage_events import Usage
from services.billing.mandates.repository import lock_mandates
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.support.charging import charge, received
from tests.support.events import usage_record
from tests.support.ledger import Books


async def keys_of(database: Database, *usages: Usage) -> None:
    """Assigns keys as a worker does that has just started."""
    async with database.reading() as connection:
        await Charges(Decimal(50)).assign_charge_keys(connection, usages, system_clock())


def usage(mandate: str, user_id: str, model: str) -> Usage:
    (read,) = received([usage_record(mandate, user_id, model=model)])
    assert isinstance(read, Usage)
    return read


async def test_a_worker_that_has_just_started_finds_what_is_there_while_the_mandate_is_locked(
    api: BillingApi, books: Books, mandate: str
) -> None:
    await charge(api.database, usage_record(mandate, "user-1", model="known"))
    number = await books.value("SELECT no FROM mandates WHERE id = $1", mandate)
    again = usage(mandate, "user-1", "known")
    async with api.database.transaction() as connection:
        await lock_mandates(connection, [number])
        await asyncio.wait_for(keys_of(api.database, again), timeout=60)
    (row,) = await books.rows(mandate)
    assert (again.keys.mandate_no, again.keys.member_account_no, again.keys.dimension_no) == (
        number,
        row["member_account_no"],
        row["dimension_no"],
    )
    assert again.keys.pool_account_no == row["posted_account_no"]


async def test_what_is_new_is_made_beside_what_is_found(api: BillingApi, books: Books, mandate: str) -> None:
    await charge(api.database, usage_record(mandate, "user-1", model="known"))
    usages = [usage(mandate, "user-1", "known"), usage(mandate, "user-1", "new"), usage(mandate, "stranger", "known")]
    await keys_of(api.database, *usages)
    known, new, stranger = (each.keys for each in usages)
    assert known.member_account_no == new.member_account_no != stranger.member_account_no
    assert known.dimension_no == stranger.dimension_no != new.dimension_no
    assert len({each.pool_account_no for each in (known, new, stranger)}) == 1
    assert await books.failing() == {}
