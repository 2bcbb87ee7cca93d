"""Commands whose output is a pipe that its reader closes early: `rappen dlq list | head -1`."""

import os
import select
import sys
from collections.abc import Callable

__all__ = ["CLOSED_PIPE", "until_closed"]

# The exit code a shell reports for a process ended by SIGPIPE; the signal itself stays ignored, because of sockets.
CLOSED_PIPE = 141


def until_closed(command: Callable[[], int]) -> int:
    """Runs a command and gives its exit code; a closed standard output ends it without a word."""
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        # What is still buffered goes nowhere, so that the interpreter does not complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    return code


def _stdout_is_closed() -> bool:
    """Whether the broken pipe is standard output: a connection to a server may break with the same error."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
