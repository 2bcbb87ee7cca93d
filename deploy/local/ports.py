"""Choice of TCP ports on the loopback interface."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

from deploy.local.errors import StackError

LOOPBACK = "127.0.0.1"

_FIRST = 20_000
# The usual lower ends of the ranges of outgoing ports: Linux as configured by default, and elsewhere.
_DEFAULT_EPHEMERAL_START = 32_768
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# "1/3": the second of three equal parts of the range. Processes that choose at the same time, with different parts,
# never choose a port that another one has chosen and is not listened at yet.
PART = "RAPPEN_PORTS_PART"
# For the same reason no port is chosen twice by one process.
_chosen: set[int] = set()


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
    first, end = _range()
    for _ in range(200):
        port = source.randrange(first, end)
        if port not in taken and port not in _chosen and is_free(port):
            taken.add(port)
            _chosen.add(port)
            return port
    raise StackError(f"no free port between {first} and {end}")


def _range() -> tuple[int, int]:
    end = _ephemeral_start()
    part = os.environ.get(PART)
    if part is None:
        return _FIRST, end
    number, parts = map(int, part.split("/"))
    size = (end - _FIRST) // parts
    return _FIRST + number * size, _FIRST + (number + 1) * size


def _ephemeral_start() -> int:
    if not _EPHEMERAL_RANGE.exists():
        return _DEFAULT_EPHEMERAL_START
    start = int(_EPHEMERAL_RANGE.read_text().split()[0])
    # A host that hands out nearly all ports leaves no room below; there the risk above is the smaller one.
    return start if start >= _FIRST + 2_000 else _DEFAULT_EPHEMERAL_START
