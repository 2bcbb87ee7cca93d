"""Checks that are read together: each is answered, whenever it arrives."""

import asyncio

from services.billing.checks.eligibility import EligibilityBatcher
from services.chassis.database import Database


async def test_who_asks_in_the_turn_in_which_a_reader_ends_is_answered(database: Database, mandate: str) -> None:
    # An answered caller goes on in the very turn in which the only reader, having nobody left, comes to its end.
    batcher = EligibilityBatcher(database, readers_max=1)
    async with asyncio.timeout(10):
        for _ in range(3):
            assert (await batcher.read(mandate, "user-1", None))["known"]


async def test_who_goes_away_and_who_comes_meanwhile_leave_nobody_waiting(database: Database, mandate: str) -> None:
    batcher = EligibilityBatcher(database)

    async def ask(number: int) -> bool:
        for _ in range(5):
            reading = asyncio.create_task(batcher.read(mandate, "user-1", None))
            await asyncio.sleep(0)
            if number % 3 == 0:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            else:
                assert (await reading)["known"]
        return True

    async with asyncio.timeout(20):
        assert all(await asyncio.gather(*(ask(number) for number in range(100))))
