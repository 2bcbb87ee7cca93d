"""Wires the commands of `rappen`; each group lives in a module of its own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from deploy.local.errors import StackError
from services.chassis.output import until_closed

if TYPE_CHECKING:
    import typer

# The exit code a shell reports for a process ended by Ctrl-C.
_INTERRUPTED = 130


def make_app() -> typer.Typer:
    """Make the command line; what it is made of is imported here, where Ctrl-C already has its answer."""
    import typer

    from deploy.ops.clock import clock
    from deploy.ops.demo import demo, simulate
    from deploy.ops.services import add_service_commands
    from deploy.ops.stack import down, status, up
    from deploy.ops.stripe import add_stripe_commands
    from deploy.ops.tokens import token

    app = typer.Typer(
        help="Rappen on this machine: the stack, and the operator's commands.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in (demo, up, status, down, token, simulate):
        app.command()(command)
    app.add_typer(clock, name="clock")
    add_service_commands(app)
    add_stripe_commands(app)
    return app


def run() -> None:
    """Run the command line; an expected failure is its message on standard error and exit code 1, Ctrl-C is 130."""
    sys.exit(until_closed(_run))


def _run() -> int:
    try:
        code = _run_command()
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        print("rappen: interrupted", file=sys.stderr)
    return code


def _run_command() -> int:
    try:
        make_app()()
    except StackError as error:
        print(f"rappen: {error}", file=sys.stderr)
        return 1
    except SystemExit as end:
        # What it printed is still to be written, and its reader may be gone.
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    run()
