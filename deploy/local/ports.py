"""Choice of TCP ports on the loopback interface."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from deploy.local.errors import StackError

LOOPBACK = "127.0.0.1"

_FIRST = 20_000
# The usual lower ends of the ranges of outgoing ports: Linux as configured by default, and elsewhere.
_DEFAULT_EPHEMERAL_START = 32_768
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set this option too: a port in TIME_WAIT after a restart is free for them.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port(taken: set[int] | None = None, rng: random.Random | None = None) -> int:
    """Pick a free port that is not in `taken`, and add it there.

    It lies below the range of outgoing ports. Inside that range a client that keeps knocking at a server that is down
    may be given the server's own port by the kernel, connect to itself, and so keep the server from ever coming back.
    """
    taken = taken if taken is not None else set()
    source = rng or random.SystemRandom()
    end = _ephemeral_start()
    for _ in range(200):
        port = source.randrange(_FIRST, end)
        if port not in taken and is_free(port):
            taken.add(port)
            return port
    raise StackError(f"no free port between {_FIRST} and {end}")


def _ephemeral_start() -> int:
    if not _EPHEMERAL_RANGE.exists():
        return _DEFAULT_EPHEMERAL_START
    start = int(_EPHEMERAL_RANGE.read_text().split()[0])
    # A host that hands out nearly all ports leaves no room below; there the risk above is the smaller one.
    return start if start >= _FIRST + 2_000 else _DEFAULT_EPHEMERAL_START
