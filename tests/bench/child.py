"""A load process of the bench: started, told to begin, its result read."""

import asyncio
import gc
import json
from collections.abc import Sequence
from typing import Any, Self

from tests.support.stack import ROOT

__all__ = ["Child", "tell_ready"]

READY_TIMEOUT_S = 300.0
RESULT_TIMEOUT_S = 1_200.0


def tell_ready() -> None:
    """Says, in a load process, that everything is there; what is, is not looked through by the collector while answers
    are timed."""
    gc.collect()
    gc.freeze()
    print("ready", flush=True)


class Child:
    """A process that says `ready`, begins at a line of input and ends with one line of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        """Starts it and waits until it is ready."""
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        child = cls(process)
        await child._line("ready", READY_TIMEOUT_S)
        return child

    def tell(self, text: str = "go") -> None:
        """Writes a line to its input."""
        if self._process.stdin is not None and self._process.returncode is None:
            self._process.stdin.write(f"{text}\n".encode())

    async def result(self, timeout_s: float = RESULT_TIMEOUT_S) -> dict[str, Any]:
        """Its line of JSON, after which it has ended well."""
        line = await self._line("{", timeout_s)
        if await self._process.wait() != 0:
            raise RuntimeError(f"a load process ended with {self._process.returncode}")
        result: dict[str, Any] = json.loads(line)
        return result

    async def _line(self, expected: str, timeout_s: float) -> str:
        if self._process.stdout is None:
            raise AssertionError("the output is a pipe")
        async with asyncio.timeout(timeout_s):
            line = (await self._process.stdout.readline()).decode()
        if not line.startswith(expected):
            await self._process.wait()
            raise RuntimeError(f"a load process ended with {self._process.returncode} and said {line!r}")
        return line
