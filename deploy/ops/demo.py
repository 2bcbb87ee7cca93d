"""`rappen demo`: the whole platform, demo tenants, simulated AI usage and customers, and a live view, in one terminal.

`rappen simulate` is the same without the platform, upon a stack that runs already.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.local.errors import StackError
from deploy.ops.stack import DEFAULT_WORKERS, Ports, Workers, make_options, run_in_foreground

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

Rate = Annotated[float, typer.Option(min=0.1, max=5_000, help="Events per second, on average.")]
Seconds = Annotated[float | None, typer.Option(min=1, help="End after so many seconds.")]
WithScenario = Annotated[
    bool,
    typer.Option(
        "--scenario/--no-scenario",
        help="Also let customers subscribe, pay, be declined and recover, round after round; this moves the time.",
    ),
]
Rounds = Annotated[int | None, typer.Option(min=1, help="End after so many rounds of the scenario.")]
Pace = Annotated[float, typer.Option(min=0, max=600, help="Seconds between two steps of the scenario.")]

_DEFAULT_RATE = 40.0
_DEFAULT_PACE_S = 5.0


def demo(
    *,
    rate: Rate = _DEFAULT_RATE,
    seconds: Seconds = None,
    scenario: WithScenario = True,
    rounds: Rounds = None,
    pace: Pace = _DEFAULT_PACE_S,
    workers: Workers = DEFAULT_WORKERS,
    port: Ports = None,
) -> None:
    """Start everything with demo tenants, simulated AI usage and customers, and watch it; Ctrl-C stops all."""
    show = _session(rate, seconds, scenario=scenario, rounds=rounds, pace=pace)
    run_in_foreground(make_options(workers=workers, port=port), show)


def simulate(
    *,
    rate: Rate = _DEFAULT_RATE,
    seconds: Seconds = None,
    scenario: WithScenario = False,
    rounds: Rounds = None,
    pace: Pace = _DEFAULT_PACE_S,
) -> None:
    """Simulate AI usage upon the running stack, and watch it being charged; Ctrl-C stops the simulation."""
    from deploy.local.control import running_stack
    from deploy.local.home import find_home

    show = _session(rate, seconds, scenario=scenario, rounds=rounds, pace=pace)
    asyncio.run(_until_told(show(running_stack(find_home()))))


def _session(
    rate: float, seconds: float | None, *, scenario: bool, rounds: int | None, pace: float
) -> Callable[[Mapping[str, Any]], Coroutine[Any, Any, None]]:
    """Give the work upon a stack; options that contradict each other are refused before anything is started."""
    if rounds is not None and not scenario:
        raise StackError("--rounds counts those of the scenario: give --scenario too")

    async def run(stack: Mapping[str, Any]) -> None:
        from deploy.simulator.scenario.run import ScenarioOptions
        from deploy.simulator.session import run_session
        from services.chassis.logging import configure_command_logging

        # What the clock logs of a move would stand in the middle of the view.
        configure_command_logging()
        options = ScenarioOptions(pace_s=pace, rounds=rounds) if scenario else None
        await run_session(stack, rate=rate, seconds=seconds, scenario=options)

    return run


async def _until_told(session: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or to the signal that asks for it."""
    running = asyncio.create_task(session)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, running.cancel)
    await asyncio.wait({running})
    if not running.cancelled():
        running.result()
