"""Ids of holds, the state of a hold at a time, and requests that are worked on together."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.checks.together import (
    SLOW_MAX,
    SLOW_S,
    TOGETHER_MAX,
    WAITING_FOR_LOCKS_MAX,
    WAITING_MAX,
    Locked,
    Together,
)
from services.billing.ledger.domain import hold_id, hold_mandate_no, transaction_id
from services.billing.ledger.holds import Hold
from services.chassis.database import DatabaseUnavailable
from services.chassis.requests import ANSWER_S
from tests.support.waiting import eventually

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@given(mandate=st.integers(1, 2**31 - 1), random=st.uuids(), other=st.uuids())
def test_a_holds_id_says_whose_it_is(mandate: int, random: UUID, other: UUID) -> None:
    made = hold_id(mandate, random)
    assert (made.version, made.variant) == (8, UUID(int=0x8000000000000000_8000000000000000).variant)
    assert hold_mandate_no(made) == mandate
    assert UUID(str(made)) == made
    # As many different ids as random bits that are not fixed by the form.
    same = hold_id(mandate, other) == made
    assert same == (hold_id(1, random) == hold_id(1, other))


@given(st.uuids(version=4) | st.uuids(version=1))
def test_an_id_of_another_version_is_no_holds(foreign: UUID) -> None:
    assert hold_mandate_no(foreign) is None


def test_a_number_that_no_mandate_has_is_nobodys() -> None:
    assert hold_mandate_no(transaction_id(2**59, 1)) is None


@pytest.mark.parametrize(("seconds", "state"), [(-1, "OPEN"), (0, "EXPIRED"), (1, "EXPIRED")])
def test_a_hold_is_expired_from_its_time_on(seconds: int, state: str) -> None:
    hold = Hold(1, uuid4(), "m", "u", 5, "OPEN", None, None, None, NOW, None, None)
    assert hold.state_at(NOW + timedelta(seconds=seconds)) == state
    assert hold._replace(state="CAPTURED").state_at(NOW + timedelta(days=1)) == "CAPTURED"


class Work:
    """A work that tells what it was given, refuses odd numbers and finds some mandates locked."""

    def __init__(self, locked: set[str] | None = None) -> None:
        self.batches: list[tuple[list[tuple[str, int]], bool]] = []
        self.locked = locked or set()
        self.release = asyncio.Event()
        self.waiting_for_lock = 0

    async def __call__(self, asked: Sequence[tuple[str, int]], wait: bool) -> list[int | Exception]:
        self.batches.append((list(asked), wait))
        await asyncio.sleep(0.001)
        if any(number < 0 for _, number in asked):
            raise ZeroDivisionError
        if wait and asked[0][0] in self.locked:
            self.waiting_for_lock += 1
            await self.release.wait()
        outcomes: list[int | Exception] = []
        for mandate, number in asked:
            if not wait and mandate in self.locked:
                outcomes.append(Locked())
            else:
                outcomes.append(ValueError(number) if number % 2 else number)
        return outcomes


async def test_each_gets_its_own_answer_and_those_that_wait_share_their_work() -> None:
    work, together = Work(), Together()
    answers = await asyncio.gather(
        *(together(work, (f"m{number % 7}", number), f"m{number % 7}") for number in range(300)), return_exceptions=True
    )
    assert [answer if isinstance(answer, int) else answer.args[0] for answer in answers] == list(range(300))
    assert {type(answer) for answer in answers} == {int, ValueError}
    assert len(work.batches) < 50
    assert max(len(asked) for asked, _ in work.batches) <= TOGETHER_MAX


async def test_a_mandate_is_worked_on_once_at_a_time_whatever_the_work() -> None:
    running: set[str] = set()

    async def work(asked: Sequence[str], wait: bool) -> list[str]:
        assert not running & set(asked)
        running.update(asked)
        await asyncio.sleep(0.001)
        running.difference_update(asked)
        return list(asked)

    async def other(asked: Sequence[str], wait: bool) -> list[str]:
        return await work(asked, wait)

    together = Together()
    names = [f"m{number % 5}" for number in range(100)]
    answers = await asyncio.gather(
        *(together(work if number % 2 else other, name, name) for number, name in enumerate(names))
    )
    assert answers == names


async def test_who_waits_for_a_lock_holds_nobody_of_another_mandate_up() -> None:
    work, together = Work({"busy"}), Together()
    locked = [asyncio.create_task(together(work, ("busy", 0), "busy"))]
    await eventually(lambda: work.waiting_for_lock, what="one that waits for the lock")
    locked += [asyncio.create_task(together(work, ("busy", 2 * number), "busy")) for number in (1, 2)]
    async with asyncio.timeout(60):
        for number in range(0, 20, 2):
            assert await together(work, ("free", number), "free") == number
    assert not any(task.done() for task in locked)
    assert [wait for asked, wait in work.batches if any(mandate == "free" for mandate, _ in asked)] == [False] * 10
    work.release.set()
    assert await asyncio.gather(*locked) == [0, 2, 4]
    # The first was alone; the others came while it waited, and then waited together.
    assert work.waiting_for_lock == 2


async def test_a_transaction_that_takes_long_holds_nobody_of_another_mandate_up() -> None:
    stands, given = asyncio.Event(), list[str]()

    async def work(asked: Sequence[str], wait: bool) -> list[str]:
        given.extend(asked)
        if asked[0].startswith("slow"):
            await stands.wait()
        return list(asked)

    together = Together()
    slow = [asyncio.create_task(together(work, "slow", "m0"))]
    await asyncio.sleep(0)
    async with asyncio.timeout(ANSWER_S / 3):
        assert await together(work, "fast", "m1") == "fast"
    # Not without a bound: a database that stands still is not given ever more to do.
    for number in range(10):
        slow.append(asyncio.create_task(together(work, f"slow{number}", f"s{number}")))
        await asyncio.sleep(SLOW_S / 5)
    await asyncio.sleep(SLOW_S * (SLOW_MAX + 1))
    assert len(slow) > sum(each.startswith("slow") for each in given)
    stands.set()
    assert len(await asyncio.gather(*slow)) == 11
    assert await together(work, "fast", "m0") == "fast"


async def test_who_has_gone_is_not_worked_for_where_each_is_tried_by_itself() -> None:
    stands, alone = asyncio.Event(), 0

    async def work(asked: Sequence[int], wait: bool) -> list[int]:
        nonlocal alone
        await asyncio.sleep(0.001)
        if len(asked) > 1:
            raise ZeroDivisionError
        if asked[0] > 0:
            alone += 1
            await stands.wait()
        return list(asked)

    together = Together()
    tasks = [asyncio.create_task(together(work, number, "m")) for number in range(20)]
    await eventually(lambda: alone, what="one that is tried by itself")
    for task in tasks[1:]:
        task.cancel()
    await asyncio.sleep(0)
    stands.set()
    assert await together(work, 0, "m") == 0
    assert alone == 1


async def test_who_has_gone_while_others_wait_for_locks_keeps_no_place_of_theirs() -> None:
    work, together = Work({f"m{number}" for number in range(20)}), Together()
    tasks = [asyncio.create_task(together(work, (f"m{number}", 0), f"m{number}")) for number in range(20)]
    await eventually(lambda: work.waiting_for_lock == WAITING_FOR_LOCKS_MAX, what="as many as may wait for locks")
    for task in tasks[WAITING_FOR_LOCKS_MAX:]:
        task.cancel()
    await asyncio.sleep(0)
    work.release.set()
    await asyncio.gather(*tasks[:WAITING_FOR_LOCKS_MAX])
    assert await together(work, ("m19", 2), "m19") == 2
    assert work.waiting_for_lock == WAITING_FOR_LOCKS_MAX + 1


async def test_the_fault_of_one_is_not_that_of_the_others() -> None:
    work, together = Work(), Together()
    numbers = [0, 2, -1, 4]
    answers = await asyncio.gather(*(together(work, ("m", number), "m") for number in numbers), return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, int)] == [0, 2, 4]
    assert isinstance(answers[2], ZeroDivisionError)


async def test_a_transient_fault_is_that_of_all_and_is_not_tried_again() -> None:
    tries = 0

    async def work(asked: Sequence[int], wait: bool) -> list[int]:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0.001)
        raise TimeoutError

    together = Together()
    first = asyncio.create_task(together(work, 0, "m"))
    await asyncio.sleep(0)
    answers = await asyncio.gather(first, *(together(work, 1, "m") for _ in range(5)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {TimeoutError}
    assert tries == 2


async def test_too_many_that_wait_are_refused_and_those_who_have_gone_do_not_count() -> None:
    work, together = Work({"busy"}), Together()
    tasks = [asyncio.create_task(together(work, ("busy", 0), "busy")) for _ in range(2)]
    await eventually(lambda: work.waiting_for_lock, what="one that waits for the lock")
    tasks += [asyncio.create_task(together(work, ("busy", 0), "busy")) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(DatabaseUnavailable):
        await together(work, ("busy", 0), "busy")
    for task in tasks[-10:]:
        task.cancel()
    await asyncio.sleep(0)
    last = asyncio.create_task(together(work, ("busy", 8), "busy"))
    await asyncio.sleep(0)
    work.locked.clear()
    work.release.set()
    assert await last == 8
    assert await asyncio.gather(*tasks[:-10]) == [0] * (len(tasks) - 10)
