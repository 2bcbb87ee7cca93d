"""Checks that are read together: each is answered, whenever it arrives."""

import asyncio

from services.billing.checks.eligibility import TOGETHER_MAX, Asked, EligibilityBatcher
from services.chassis.clock import system_clock
from services.chassis.database import Database
from tests.support.databases import opened
from tests.support.stack import ServerPair


async def test_who_asks_in_the_turn_in_which_a_reader_ends_is_answered(database: Database, mandate: str) -> None:
    # An answered caller goes on in the very turn in which the only reader, having nobody left, comes to its end.
    batcher = EligibilityBatcher(database, system_clock, readers_max=1)
    async with asyncio.timeout(60):
        for _ in range(3):
            assert (await batcher.read(Asked(mandate, "user-1", None, None, None))).row["known"]


async def test_who_goes_away_and_who_comes_meanwhile_leave_nobody_waiting(database: Database, mandate: str) -> None:
    batcher = EligibilityBatcher(database, system_clock)

    async def ask(number: int) -> bool:
        for _ in range(5):
            reading = asyncio.create_task(batcher.read(Asked(mandate, "user-1", None, None, None)))
            await asyncio.sleep(0)
            if number % 3 == 0:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            else:
                assert (await reading).row["known"]
        return True

    async with asyncio.timeout(60):
        assert all(await asyncio.gather(*(ask(number) for number in range(100))))


async def test_checks_without_end_leave_a_connection_to_others(servers: ServerPair) -> None:
    async with opened(servers.dsn("billing"), pool_size=1) as database:
        batcher = EligibilityBatcher(database, system_clock, readers_max=1)

        async def ask() -> None:
            while True:
                await batcher.read(Asked("nobody", "user-1", None, None, None))

        # More than one batch, so that at its end there are always checks that wait.
        asking = [asyncio.create_task(ask()) for _ in range(3 * TOGETHER_MAX)]
        try:
            for _ in range(5):
                await asyncio.sleep(0.05)
                async with asyncio.timeout(60):
                    assert await database.ping()
        finally:
            for task in asking:
                task.cancel()
            ended = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in ended)
