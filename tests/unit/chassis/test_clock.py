"""The clock that a file moves: forward only, for all processes at one moment, at little cost; never in production."""

import asyncio
import json
import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from services.billing.settings import BillingSettings
from services.chassis.clock import (
    LOOK_EVERY_S,
    OFFSET_S_MAX,
    AdjustableClock,
    offset_s_of,
    platform_clock,
    system_clock,
)
from services.chassis.jobs import RepeatedJob
from services.chassis.settings import HttpSettings, KafkaSettings, ServiceSettings
from services.gateway.settings import GatewaySettings
from services.payments.settings import PaymentsSettings
from services.subscriptions.settings import SubscriptionsSettings
from tests.support.parts import at_work
from tests.support.waiting import eventually

MONTH_S = 30 * 24 * 3600
COMMON: dict[str, Any] = {
    "database_url": SecretStr("postgresql://u:p@127.0.0.1:1/d"),
    "kafka": KafkaSettings(bootstrap_servers="127.0.0.1:1"),
    "http": HttpSettings(port=1),
    "internal_secret": SecretStr("s" * 32),
}
SERVICES: list[tuple[type[ServiceSettings], dict[str, Any]]] = [
    (BillingSettings, {}),
    (PaymentsSettings, {}),
    (SubscriptionsSettings, {}),
    (
        GatewaySettings,
        {"internal_http": HttpSettings(port=2)}
        | {f"{name}_url": "http://127.0.0.1:1" for name in ("billing", "payments", "subscriptions")},
    ),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "clock.json"


def write(file: Path, content: str) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(content)
    partial.replace(file)


def move(file: Path, offset_s: float, *, counts_from: float = 0.0) -> None:
    write(file, json.dumps({"offset_s": offset_s, "counts_from": counts_from}))


def looked(clock: AdjustableClock) -> datetime:
    """The time after the clock has had to look at its file again."""
    time.sleep(1.2 * LOOK_EVERY_S)
    return clock()


def is_ahead(at: datetime, offset_s: float) -> bool:
    return abs(at - system_clock() - timedelta(seconds=offset_s)) < timedelta(seconds=5)


def test_without_a_file_it_is_the_machines_time(file: Path) -> None:
    clock = AdjustableClock(file)
    assert is_ahead(clock(), 0)
    assert offset_s_of(clock) == offset_s_of(system_clock) == 0


def test_it_follows_the_file_and_a_new_one_begins_where_the_file_says(file: Path) -> None:
    clock = AdjustableClock(file)
    move(file, 3600)
    assert is_ahead(looked(clock), 3600)
    move(file, MONTH_S)
    assert is_ahead(looked(clock), MONTH_S)
    assert clock.offset_s == AdjustableClock(file).offset_s == MONTH_S


def test_all_that_have_read_the_file_go_over_at_the_moment_it_names(file: Path) -> None:
    clock, other = AdjustableClock(file), AdjustableClock(file)
    begins = time.time() + 0.5
    move(file, MONTH_S, counts_from=begins)
    at = clock()
    while time.time() < begins:
        assert is_ahead(at, 0)
        at = clock()
    assert is_ahead(clock(), MONTH_S)
    # It has not looked since before the file was written.
    assert is_ahead(other(), MONTH_S)


@pytest.mark.parametrize(
    "content",
    [
        '{"offset_s": 60}',
        '{"offset_s": -1}',
        '{"offset_s": 1e9}',
        '{"offset_s": true}',
        json.dumps({"offset_s": OFFSET_S_MAX + 1}),
        '{"offset_s": 7200, "counts_from": "now"}',
        "{}",
        "[7200]",
        "",
        '{"offset_s": 72',
        "\xff",
    ],
)
def test_it_never_goes_back_and_what_is_no_move_is_ignored_with_one_line_of_log(
    file: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    move(file, 3600)
    clock = AdjustableClock(file)
    capsys.readouterr()
    file.write_bytes(content.encode("latin-1"))
    for _ in range(3):
        assert is_ahead(looked(clock), 3600)
    assert len(capsys.readouterr().out.strip().splitlines()) == 1
    # It goes on with the next that is right.
    move(file, 7200)
    assert is_ahead(looked(clock), 7200)


def test_a_file_that_is_gone_leaves_the_time_as_it_is(file: Path) -> None:
    move(file, 3600)
    clock = AdjustableClock(file)
    file.unlink()
    assert is_ahead(looked(clock), 3600)


def test_a_call_between_two_looks_touches_no_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    stat = os.stat

    def counting(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        looks.append(path)
        return stat(path, *arguments, **options)

    clock = AdjustableClock(file)
    monkeypatch.setattr(os, "stat", counting)
    begin = time.monotonic()
    for _ in range(10_000):
        clock()
    assert looks.count(file) <= (time.monotonic() - begin) / LOOK_EVERY_S + 1


@pytest.mark.parametrize(("settings", "more"), SERVICES)
def test_no_service_takes_a_clock_file_in_production(
    settings: type[ServiceSettings], more: dict[str, Any], file: Path
) -> None:
    move(file, 3600)
    with pytest.raises(ValidationError, match="clock_file is for development"):
        settings(**COMMON, **more, environment="production", clock_file=file)
    given = settings(**COMMON, **more, environment="development", clock_file=file)
    assert is_ahead(platform_clock(given)(), 3600)
    assert platform_clock(settings(**COMMON, **more, environment="production")) is system_clock


async def test_a_job_that_rests_runs_again_when_the_clock_is_moved(file: Path) -> None:
    clock = AdjustableClock(file)
    runs: list[int] = []

    async def job() -> int:
        runs.append(clock.offset_s)
        await asyncio.sleep(0)
        return 0

    async with at_work(RepeatedJob("rests for an hour", job, every_s=3600, clock=clock)):
        await eventually(lambda: runs == [0], what="the first run")
        move(file, 7200)
        await eventually(lambda: runs == [0, 7200], what="the run by the new time")


async def test_a_job_that_fails_and_waits_to_try_again_does_so_when_the_clock_is_moved(file: Path) -> None:
    clock = AdjustableClock(file)
    runs: list[int] = []

    async def job() -> int:
        runs.append(clock.offset_s)
        await asyncio.sleep(0)
        raise ValueError

    async with at_work(RepeatedJob("fails", job, every_s=3600, clock=clock)):
        await eventually(lambda: runs == [0], what="the first run")
        move(file, 7200)
        await eventually(lambda: runs == [0, 7200], what="the run by the new time")
