"""`python -m deploy.simulator [--rate N] [--seconds N]`: the same as `rappen simulate`."""

from __future__ import annotations

import sys

import typer

from deploy.local.errors import StackError
from deploy.ops.demo import simulate

if __name__ == "__main__":
    try:
        typer.run(simulate)
    except StackError as error:
        print(f"rappen: {error}", file=sys.stderr)
        sys.exit(1)
