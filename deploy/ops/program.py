"""The `rappen` program. What it is made of is an extra, which the image of the services does without."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def run() -> None:
    """Run the command line, or say what it takes to have one."""
    if find_spec("typer") is None:
        sys.exit("rappen: this command needs an extra: pip install 'rappen[local]', or 'rappen[tools]' with Docker")
    from deploy.ops.main import run as run_command_line

    run_command_line()
