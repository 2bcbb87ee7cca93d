"""Waiting for another service's word: at once where this process hears it, by and by where another one does."""

import asyncio

from services.subscriptions.lifecycle.await_stripe import until

HOUR_S = 3600.0


async def test_who_waits_looks_again_as_soon_as_the_notice_is_set() -> None:
    notice, looks = asyncio.Event(), 0

    async def look() -> str | None:
        nonlocal looks
        looks += 1
        if looks < 3:
            asyncio.get_running_loop().call_soon(notice.set)
            return None
        return "found"

    async with asyncio.timeout(60):
        found = await until(look, timeout_s=HOUR_S, notice=notice, pause_s=HOUR_S)
    assert (found, looks) == ("found", 3)


async def test_a_notice_during_the_look_is_not_lost() -> None:
    notice, answers = asyncio.Event(), list[str]()

    async def look() -> str | None:
        found = answers[0] if answers else None
        if not answers:
            # Committed after the look has read, and before it is back.
            answers.append("found")
            notice.set()
            await asyncio.sleep(0)
        return found

    async with asyncio.timeout(60):
        assert await until(look, timeout_s=HOUR_S, notice=notice, pause_s=HOUR_S) == "found"


async def test_without_a_notice_it_looks_by_and_by_and_at_last_at_the_end() -> None:
    looks = 0

    async def look() -> str | None:
        nonlocal looks
        looks += 1
        return "found" if looks == 4 else None

    assert await until(look, timeout_s=HOUR_S, pause_s=0.001) == "found"
    assert await until(look, timeout_s=0) is None
    assert looks == 5
