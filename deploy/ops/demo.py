"""`rappen demo`: the whole platform, a demo tenant, simulated AI usage and a live view, in one terminal.

`rappen simulate` is the same without the platform, upon a stack that runs already.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.ops.stack import DEFAULT_WORKERS, Ports, Workers, make_options, run_in_foreground

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

Rate = Annotated[float, typer.Option(min=0.1, max=5_000, help="Events per second, on average.")]
Seconds = Annotated[float | None, typer.Option(min=1, help="End after so many seconds.")]

_DEFAULT_RATE = 40.0


def demo(
    *,
    rate: Rate = _DEFAULT_RATE,
    seconds: Seconds = None,
    workers: Workers = DEFAULT_WORKERS,
    port: Ports = None,
) -> None:
    """Start everything with a demo tenant and simulated AI usage, and watch it being charged; Ctrl-C stops all."""

    async def watch(stack: dict[str, Any]) -> None:
        await _session(stack, rate, seconds)

    run_in_foreground(make_options(workers=workers, port=port), watch)


def simulate(*, rate: Rate = _DEFAULT_RATE, seconds: Seconds = None) -> None:
    """Simulate AI usage upon the running stack, and watch it being charged; Ctrl-C stops the simulation."""
    from deploy.local.control import running_stack
    from deploy.local.home import find_home

    asyncio.run(_until_told(_session(running_stack(find_home()), rate, seconds)))


async def _session(stack: Mapping[str, Any], rate: float, seconds: float | None) -> None:
    from deploy.simulator.session import run_session

    await run_session(stack, rate=rate, seconds=seconds)


async def _until_told(session: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or to the signal that asks for it."""
    running = asyncio.create_task(session)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, running.cancel)
    await asyncio.wait({running})
    if not running.cancelled():
        running.result()
