"""One run of the simulator: usage goes out, the view shows what becomes of it, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live

from deploy.simulator.guard import Guard
from deploy.simulator.pay_page import open_pay_page
from deploy.simulator.platform import Platform
from deploy.simulator.publisher import Publisher
from deploy.simulator.scenario.cast import Cast
from deploy.simulator.scenario.run import Scenario, ScenarioOptions
from deploy.simulator.scenario.steps import Told
from deploy.simulator.scenario.world import World
from deploy.simulator.seed import is_seeded, seed
from deploy.simulator.tenants import TOP_UP
from deploy.simulator.traffic import Traffic
from deploy.simulator.watch import plain
from deploy.simulator.watch.observers import Observers
from deploy.simulator.watch.picture import Happening, Notice, Picture
from deploy.simulator.watch.screen import screen
from services.chassis.clock import AdjustableClock

__all__ = ["run_session"]

_FRAME_S = 0.5
_LINE_S = 3.0
_PATIENCE_S = 60.0


async def run_session(
    stack: Mapping[str, Any], *, rate: float, seconds: float | None, scenario: ScenarioOptions | None
) -> None:
    """Simulate and show until cancelled, for so many seconds, or until the scenario has ended.

    `stack` is the content of `stack.json`; without options of a scenario there is usage alone.
    """
    async with httpx.AsyncClient(trust_env=False) as client:
        platform = Platform(client, stack)
        if not await is_seeded(platform):
            await seed(stack)
        picture = Picture(gateway=stack["gateway"], mail=stack["mail"], top_up=_label())
        picture.pay_page = await open_pay_page(platform, client, stack, TOP_UP, patience_s=_PATIENCE_S)
        traffic = Traffic(Random())
        guard = Guard(platform, traffic.memberships)
        await guard.ask()
        # Calls are made now, which is when the platform says it is.
        clock = AdjustableClock(Path(stack["clock_file"]))
        publisher = Publisher(stack["kafka"], traffic, guard, rate=rate, clock=clock)
        observers = Observers(picture, stack=stack, client=client, platform=platform, guard=guard)
        view = _show_screen(picture) if _has_screen() else _print_lines(picture)
        work = [publisher.run(), guard.run(), *observers.tasks(), view]
        if scenario is not None:
            work.append(_scenario(World(stack, client, platform), scenario, picture))
        try:
            with _noticing(picture):
                await _all(work, seconds)
        finally:
            await observers.close()
            print(plain.summary(picture), flush=True)


def _scenario(world: World, options: ScenarioOptions, picture: Picture) -> Awaitable[None]:
    """What happens to customers, told in the picture."""

    def enter(cast: Cast) -> None:
        picture.cast = cast.tenants

    def tell(told: Told, failed: bool) -> None:
        happening = Happening(datetime.now().astimezone(), told.who, told.text, failed)
        picture.tell(happening)
        if not _has_screen():
            print(plain.happening(happening), flush=True)

    return Scenario(world, options, enter=enter, tell=tell).run()


async def _all(work: list[Awaitable[None]], seconds: float | None) -> None:
    """Do all of it at once; the first that ends or fails, the end of the time or a cancellation ends everything."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _has_screen() -> bool:
    """Whether the output is a terminal with a cursor."""
    return sys.stdout.isatty() and not Console().is_dumb_terminal


async def _show_screen(picture: Picture) -> None:
    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(screen(picture, width=console.width, height=console.height), refresh=True)
            await asyncio.sleep(_FRAME_S)


async def _print_lines(picture: Picture) -> None:
    """A line of figures now and then, and how each customer stands whenever more than their usage has changed it."""
    print(plain.addresses(picture), flush=True)
    printed: dict[str, object] = {}
    while True:
        await asyncio.sleep(_LINE_S)
        print(plain.line(picture, datetime.now().astimezone()), flush=True)
        for standing in picture.standings:
            news = (standing.plan, standing.state, standing.waits, standing.movement)
            if printed.get(standing.tenant) != news:
                printed[standing.tenant] = news
                print(plain.standing(standing), flush=True)


def _label() -> str:
    return f"top up {TOP_UP.tenant.label}, CHF {TOP_UP.amount}"


class _Notices(logging.Handler):
    """Keeps the newest warnings of the supervisor, such as a process that died, for the foot of the view."""

    def __init__(self, picture: Picture) -> None:
        super().__init__(logging.WARNING)
        self._picture = picture
        # What clients log of a server that is away follows from that, and would push it out of sight.
        self.addFilter(logging.Filter("deploy"))

    def emit(self, record: logging.LogRecord) -> None:
        """Take a warning."""
        at = datetime.fromtimestamp(record.created).astimezone()
        self._picture.notices.append(Notice(time.monotonic(), f"{at:%H:%M:%S} {record.getMessage()}"))


@contextmanager
def _noticing(picture: Picture) -> Iterator[None]:
    """Warnings go into the view as long as it owns the terminal."""
    root = logging.getLogger()
    before = root.handlers[:]
    if _has_screen():
        root.handlers[:] = [_Notices(picture)]
    try:
        yield
    finally:
        root.handlers[:] = before
