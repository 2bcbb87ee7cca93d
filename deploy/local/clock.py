"""Moves the time of a running stack: the fake Stripe's and the platform's, by the same number of seconds.

What is to be reached is written down first. So an advance that was cut off half way is brought to its end by the next
one, whoever had moved by then, and what the fake Stripe was moved alone before stays.
"""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from deploy.local.errors import StackError
from deploy.local.home import Home, read_json, write_json
from services.chassis.clock import LOOK_EVERY_S, OFFSET_S_MAX, Move, read_move

# As much as the fake Stripe moves at once.
ADVANCE_S_MAX = 10 * 366 * 24 * 3600

# Longer than any process needs to notice the file, so that all of them go over at the same moment.
_NOTICE_S = 3 * LOOK_EVERY_S
_ROLES = ("api", "worker", "all")
_OFFSETS = re.compile(
    r'^(?:rappen_clock_offset_seconds|rappen_job_clock_offset_seconds\{job="([^"]*)"\}) (\S+)$', re.MULTILINE
)
_REQUEST_TIMEOUT_S = 10.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Advance:
    """An advance that has begun: by how much, and how far each is ahead of the machine when it is made."""

    seconds: int
    platform_offset_s: int
    stripe_offset_s: int


class StackClock:
    """The two times of a running stack; `stack` is the content of its `stack.json`."""

    def __init__(self, home: Home, stack: Mapping[str, Any], client: httpx.Client) -> None:
        self._home = home
        self._stack = stack
        self._client = client

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Lets nobody else move the time within the block."""
        with (self._home.state / "clock-lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError("another command is moving the time; try again when it has ended") from None
            yield

    def platform_offset_s(self) -> int:
        """By how many seconds the platform's time is ahead of the machine's."""
        try:
            return read_move(self._home.clock_file).offset_s
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise StackError(f"{self._home.clock_file} is damaged: {error}") from error

    def stripe_offset_s(self) -> int:
        """By how many seconds the fake Stripe's time is ahead of the machine's."""
        offset_s: int = self._stripe("GET", "/_control/state")["clock_offset_s"]
        return offset_s

    def begun(self) -> Advance | None:
        """Give the advance that was cut off half way, if one was."""
        content = read_json(self._home.advance_file)
        return None if content is None else Advance(**content)

    def begin(self, seconds: int) -> Advance:
        """Write down an advance; nothing has moved yet."""
        if seconds <= 0:
            raise StackError("the time moves forward only")
        if seconds > ADVANCE_S_MAX:
            raise StackError("the time moves ten years at once, at most")
        platform_s, stripe_s = self.platform_offset_s(), self.stripe_offset_s()
        if platform_s + seconds > OFFSET_S_MAX:
            raise StackError("the platform's time is 150 years ahead, at most")
        advance = Advance(seconds, platform_s + seconds, stripe_s + seconds)
        write_json(self._home.advance_file, asdict(advance))
        return advance

    def make(self, advance: Advance) -> None:
        """Bring each of the two to where it is to be, unless it is there; the fake Stripe first.

        It is the one that can fail, and nothing of the platform depends on its being ahead for a moment.
        """
        missing_s = advance.stripe_offset_s - self.stripe_offset_s()
        if missing_s > 0:
            self._stripe("POST", "/_control/clock/advance", {"seconds": missing_s})
        if self.platform_offset_s() < advance.platform_offset_s:
            move = Move(advance.platform_offset_s, time.time() + _NOTICE_S)
            write_json(self._home.clock_file, move._asdict())
        self._home.advance_file.unlink()

    def wait_until_taken_over(self, *, timeout_s: float) -> None:
        """Return when every process goes by the new time, and every job has found nothing left to do by it.

        Raises StackError that names those that have not got so far in time.
        """
        offset_s = self.platform_offset_s()
        deadline = time.monotonic() + timeout_s
        while behind := self.behind(offset_s):
            if time.monotonic() > deadline:
                raise StackError(
                    f"the time was moved, but after {timeout_s:.0f} s not all have done what is due by it: "
                    + ", ".join(behind)
                )
            time.sleep(_POLL_S)

    def behind(self, offset_s: int) -> list[str]:
        """Name the processes and jobs that have not got to a time so many seconds ahead of the machine's."""
        found = []
        for process in self._stack["processes"]:
            if process["role"] not in _ROLES:
                continue
            try:
                answer = self._client.get(
                    process["health"].removesuffix("/readyz") + "/metrics", timeout=_REQUEST_TIMEOUT_S
                )
            except httpx.HTTPError:
                found.append(f"{process['name']} (does not answer)")
                continue
            reached = {job: float(seconds) for job, seconds in _OFFSETS.findall(answer.text)}
            found += [
                f"{process['name']} ({f'job {job}' if job else 'its clock'})"
                for job, seconds in {"": 0.0, **reached}.items()
                if seconds < offset_s
            ]
        return found

    def _stripe(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        try:
            answer = self._client.request(method, self._stack["stripe"] + path, json=body, timeout=_REQUEST_TIMEOUT_S)
            answer.raise_for_status()
            content: dict[str, Any] = answer.json()
        except httpx.HTTPError as error:
            raise StackError(f"the fake Stripe does not answer ({type(error).__name__})") from error
        return content
