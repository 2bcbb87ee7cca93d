"""What a command prints, when whoever reads it stops reading: `rappen dlq list | head -1`."""

import os
import select
import sys
from collections.abc import Callable

__all__ = ["CLOSED_PIPE", "until_closed"]

# What a shell reports of a program that SIGPIPE has ended; the signal itself stays ignored, for the sake of sockets.
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
    """Whether it is the output whose reader is gone: a connection to a server may break in the same way."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
