"""Runs rounds of the scenario, one step after the other, and tells of each; also of what did not happen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from deploy.local.errors import StackError
from deploy.simulator.scenario.cast import Cast, cast_of
from deploy.simulator.scenario.steps import Round, Told
from deploy.simulator.scenario.world import World

__all__ = ["Scenario", "ScenarioOptions"]

_BETWEEN_ROUNDS_S = 20.0
_AFTER_FAILURE_S = 30.0


@dataclass(frozen=True, slots=True)
class ScenarioOptions:
    """Seconds between two steps, in which they can be read; the number of rounds, None for no end."""

    pace_s: float = 5.0
    rounds: int | None = None


class Scenario:
    """What happens to customers; `enter` is told who they are, and `tell` what happened, or in its second argument
    that something did not."""

    def __init__(
        self,
        world: World,
        options: ScenarioOptions,
        *,
        enter: Callable[[Cast], None],
        tell: Callable[[Told, bool], None],
    ) -> None:
        self._world = world
        self._options = options
        self._enter = enter
        self._tell = tell

    async def run(self) -> None:
        """Go on until cancelled. With a number of rounds, end after them, and fail where one fails."""
        done = 0
        while self._options.rounds is None or done < self._options.rounds:
            if done:
                await asyncio.sleep(_BETWEEN_ROUNDS_S)
            try:
                await self._round()
            except (StackError, httpx.HTTPError) as error:
                if self._options.rounds is not None:
                    raise
                text = f"{error or type(error).__name__}; see rappen status and .rappen/log. It begins again soon."
                self._tell(Told("", text), True)
                await asyncio.sleep(_AFTER_FAILURE_S)
            done += 1

    async def _round(self) -> None:
        cast = await self._new_cast()
        for number, step in enumerate(Round(self._world, cast).steps):
            told = await step()
            if number == 0:
                self._enter(cast)
            if told is not None:
                self._tell(told, False)
                await asyncio.sleep(self._options.pace_s)

    async def _new_cast(self) -> Cast:
        """The first cast that the directory does not know."""
        number = 1
        while await self._world.knows(f"/api/directory/mandates/{cast_of(number).invoiced.id}"):
            number += 1
        return cast_of(number)
