"""`rappen clock`: what time it is on the platform and at the fake Stripe, and moving both ahead."""

from __future__ import annotations

import math
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.local.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.local.clock import Advance, StackClock

clock = typer.Typer(help="The time of the stack: show it, or move it ahead.")

_JOBS_TIMEOUT_S = 60.0
_HOUR_S, _DAY_S = 3600, 86_400


@clock.callback(invoke_without_command=True)
def clock_alone(context: typer.Context) -> None:
    """Show the time where nothing else is asked."""
    if context.invoked_subcommand is None:
        show()


@clock.command()
def show() -> None:
    """Show the platform's time and the fake Stripe's."""
    with _clock() as stack_clock:
        _print_times(stack_clock)
        begun = stack_clock.begun()
    if begun is not None:
        print(f"An advance by {_span(begun.seconds)} was cut off half way; rappen clock advance brings it to its end.")


@clock.command()
def advance(
    days: Annotated[int, typer.Option(help="So many days.")] = 0,
    hours: Annotated[int, typer.Option(help="So many hours; beside --days, on top of them.")] = 0,
    to: Annotated[
        str | None, typer.Option(metavar="TIME", help="To this time of the platform, as in 2027-01-31T08:00:00Z.")
    ] = None,
) -> None:
    """Move the platform's time and the fake Stripe's ahead together; trials, periods and sessions end by it.

    It returns when every process goes by the new time and every job has done what was due. What follows from that
    travels between the services as events, which takes a moment more. Tokens and rate limits keep the machine's time.
    """
    if to is not None and (days or hours):
        raise StackError("give --to, or --days and --hours, not both")
    if to is None and not (days or hours):
        raise StackError("say how far: --days N, --hours N or --to TIME")
    if min(days, hours) < 0:
        raise StackError("the time moves forward only")
    with _clock() as stack_clock, stack_clock.moving():
        wanted = None if to is None else _time(to)
        seconds = days * _DAY_S + hours * _HOUR_S if wanted is None else _seconds_until(wanted, stack_clock)
        begun = stack_clock.begun()
        if begun is None:
            _make(stack_clock, stack_clock.begin(seconds))
        else:
            _finish(stack_clock, begun, seconds, wanted)
        _print_times(stack_clock)
        stack_clock.wait_until_taken_over(timeout_s=_JOBS_TIMEOUT_S)
    print("Every process goes by it, and every job has done what was due.")


def _finish(stack_clock: StackClock, begun: Advance, seconds: int, wanted: datetime | None) -> None:
    """Bring the advance that was cut off to its end; a repeat of it asks for nothing more."""
    _make(stack_clock, begun)
    print(f"The advance by {_span(begun.seconds)} that was cut off half way is made.")
    if wanted is not None:
        rest = _seconds_until(wanted, stack_clock)
        if rest > 0:
            _make(stack_clock, stack_clock.begin(rest))
    elif seconds != begun.seconds:
        raise StackError(f"nothing else was moved; for {_span(seconds)} more give the command again")


def _make(stack_clock: StackClock, begun: Advance) -> None:
    try:
        stack_clock.make(begun)
    except StackError as error:
        raise StackError(
            f"{error}: the advance by {_span(begun.seconds)} is not made, or half of it; give the command again, which"
            " brings it to its end"
        ) from error


def _seconds_until(wanted: datetime, stack_clock: StackClock) -> int:
    now = datetime.now(UTC) + timedelta(seconds=stack_clock.platform_offset_s())
    return math.ceil((wanted - now).total_seconds())


def _time(text: str) -> datetime:
    from pydantic_core import PydanticCustomError

    from rappen_contracts.types import parse_instant

    try:
        return parse_instant(text)
    except PydanticCustomError as error:
        raise StackError(f"--to is no time, as in 2027-01-31T08:00:00Z: {error.message()}") from None


@contextmanager
def _clock() -> Iterator[StackClock]:
    import httpx

    from deploy.local.clock import StackClock
    from deploy.local.control import running_stack
    from deploy.local.home import find_home

    home = find_home()
    stack = running_stack(home)
    with httpx.Client(trust_env=False) as client:
        yield StackClock(home, stack, client)


def _print_times(stack_clock: StackClock) -> None:
    now = datetime.now(UTC)
    for name, offset_s in (
        ("platform", stack_clock.platform_offset_s()),
        ("fake Stripe", stack_clock.stripe_offset_s()),
    ):
        ahead = f"{_span(offset_s)} ahead" if offset_s else "the machine's time"
        print(f"{name:<12} {now + timedelta(seconds=offset_s):%Y-%m-%dT%H:%M:%SZ}  {ahead}")


def _span(seconds: int) -> str:
    days, rest = divmod(seconds, _DAY_S)
    words = [f"{days} day{'s' * (days != 1)}"] if days else []
    return ", ".join([*words, str(timedelta(seconds=rest))] if rest or not days else words)
