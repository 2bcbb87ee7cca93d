"""Moving the time of a stack: the fake Stripe as the process it is, and the file that the services read."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.clock import ADVANCE_S_MAX, StackClock
from deploy.local.errors import StackError
from deploy.local.home import Home
from services.chassis.clock import LOOK_EVERY_S, OFFSET_S_MAX, AdjustableClock, read_move
from tests.support.fakestripe import FakeStripe
from tests.support.waiting import wait_until

DAY_S = 24 * 3600


@pytest.fixture
async def stripe(tmp_path: Path) -> AsyncIterator[FakeStripe]:
    fake = FakeStripe(
        "--state-file",
        str(tmp_path / "fakestripe.json"),
        webhook_url="http://127.0.0.1:1/hook",
        webhook_secret="whsec_of_the_stack_clock",
        log=tmp_path / "fakestripe.log",
    )
    async with fake:
        yield fake


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make()
    return home


@pytest.fixture
def clock(home: Home, stripe: FakeStripe) -> StackClock:
    return clock_of(home, stripe)


def clock_of(home: Home, stripe: FakeStripe, processes: list[dict[str, Any]] | None = None) -> StackClock:
    stack = {"stripe": stripe.url, "processes": processes or []}
    return StackClock(home, stack, httpx.Client(trust_env=False))


def move_alone(stripe: FakeStripe, seconds: int) -> None:
    answer = httpx.post(f"{stripe.url}/_control/clock/advance", json={"seconds": seconds}, trust_env=False)
    assert answer.status_code == 200, answer.text


def offsets(clock: StackClock) -> tuple[int, int]:
    return clock.platform_offset_s(), clock.stripe_offset_s()


def test_both_move_by_the_same_seconds_and_what_the_fake_was_ahead_before_stays(
    clock: StackClock, home: Home, stripe: FakeStripe
) -> None:
    move_alone(stripe, 3600)
    clock.make(clock.begin(30 * DAY_S))
    assert offsets(clock) == (30 * DAY_S, 30 * DAY_S + 3600)
    clock.make(clock.begin(DAY_S))
    assert offsets(clock) == (31 * DAY_S, 31 * DAY_S + 3600)
    assert clock.begun() is None
    assert AdjustableClock(home.clock_file).offset_s == 31 * DAY_S


def test_a_process_goes_over_a_moment_after_the_file_is_written(clock: StackClock, home: Home) -> None:
    running = AdjustableClock(home.clock_file)
    before = time.time()
    clock.make(clock.begin(DAY_S))
    assert read_move(home.clock_file).counts_from > before + LOOK_EVERY_S
    wait_until(lambda: running.offset_s == DAY_S, what="the new time")


def test_an_advance_that_was_cut_off_is_brought_to_its_end_whichever_of_the_two_had_moved(
    clock: StackClock, home: Home, stripe: FakeStripe
) -> None:
    begun = clock.begin(DAY_S)
    # It moved, and its answer was lost.
    move_alone(stripe, DAY_S)
    assert clock.begun() == begun
    clock.make(begun)
    assert offsets(clock) == (DAY_S, DAY_S)

    begun = clock.begin(DAY_S)
    record = home.advance_file.read_text()
    clock.make(begun)
    # Both moved, and the command was killed before it could say so.
    home.advance_file.write_text(record)
    assert clock.begun() == begun
    clock.make(begun)
    assert offsets(clock) == (2 * DAY_S, 2 * DAY_S)
    assert clock.begun() is None


async def test_a_fake_stripe_that_is_away_leaves_the_platform_where_it_is_until_the_repeat(
    home: Home, stripe: FakeStripe
) -> None:
    clock = clock_of(home, stripe)
    begun = clock.begin(DAY_S)
    stripe.stop()
    with pytest.raises(StackError, match="the fake Stripe does not answer"):
        clock.make(begun)
    assert clock.platform_offset_s() == 0
    stripe.start()
    await stripe.ready()
    again = clock.begun()
    assert again == begun
    clock.make(begun)
    assert offsets(clock) == (DAY_S, DAY_S)


@pytest.mark.parametrize("seconds", [0, -1, ADVANCE_S_MAX + 1])
def test_the_time_moves_forward_only_and_ten_years_at_most(clock: StackClock, seconds: int) -> None:
    with pytest.raises(StackError):
        clock.begin(seconds)
    assert clock.begun() is None


def test_no_time_is_reached_that_the_services_would_refuse(clock: StackClock, home: Home) -> None:
    home.clock_file.write_text(f'{{"offset_s": {OFFSET_S_MAX - 10}}}')
    with pytest.raises(StackError, match="150 years"):
        clock.begin(11)
    clock.make(clock.begin(10))
    assert AdjustableClock(home.clock_file).offset_s == OFFSET_S_MAX


def test_two_commands_do_not_move_the_time_at_once(clock: StackClock, home: Home, stripe: FakeStripe) -> None:
    with (
        clock.moving(),
        pytest.raises(StackError, match="another command"),
        clock_of(home, stripe).moving(),
    ):
        pass


def test_a_process_that_does_not_take_the_time_over_is_named(home: Home, stripe: FakeStripe) -> None:
    away = {"name": "payments", "role": "all", "health": "http://127.0.0.1:1/readyz"}
    # It answers, and has no clock of ours.
    silent = {"name": "billing-api", "role": "api", "health": f"{stripe.url}/readyz"}
    helper = {"name": "mail", "role": "mail", "health": "http://127.0.0.1:1/readyz"}
    clock = clock_of(home, stripe, [away, silent, helper])
    clock.make(clock.begin(DAY_S))
    with pytest.raises(StackError) as told:
        clock.wait_until_taken_over(timeout_s=0.5)
    assert str(told.value).endswith("payments (does not answer), billing-api (its clock)")
