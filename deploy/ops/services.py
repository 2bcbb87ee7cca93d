"""The commands that the services themselves implement: run with the environment of the stack, exit code passed on."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from deploy.local.home import Home

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


@dataclass(frozen=True)
class Passed:
    """A command that is handed over, with all that follows it, to a service."""

    name: str
    service: str
    help: str


_COMMANDS = (
    Passed("audit", "billing", "Check the books; exit code 1 if a check fails. [--json]"),
    Passed("dlq", "billing", "Dead letters: list, show, replay."),
    Passed("prices", "billing", "Prices: import FILE [--format rappen|litellm] [--valid-from TIME] [--apply] [--all]."),
)


def add_service_commands(app: typer.Typer) -> None:
    """Add the commands that the services implement."""
    app.command()(migrate)
    for passed in _COMMANDS:
        _add(app, passed)


def migrate() -> None:
    """Bring the schemas of all four services to the newest version."""
    from deploy.local.control import running_stack
    from deploy.local.home import find_home

    home = find_home()
    running_stack(home)
    environments = _environments(home)
    codes = {
        service: _run([f"services.{service}", "migrate"], {**environment, **environments["owners"][service]}, home)
        for service, environment in environments["services"].items()
    }
    failed = [service for service, code in codes.items() if code != 0]
    print(f"failed: {', '.join(failed)}" if failed else f"migrated {', '.join(codes)}")
    raise typer.Exit(1 if failed else 0)


def _add(app: typer.Typer, passed: Passed) -> None:
    # The service has the options, so the service explains them too.
    @app.command(passed.name, help=passed.help, context_settings=_PASS_ON, add_help_option=False)
    def hand_over(context: typer.Context) -> None:
        from deploy.local.control import running_stack
        from deploy.local.home import find_home

        home = find_home()
        arguments = [f"services.{passed.service}", passed.name, *context.args]
        if "--help" in context.args or "-h" in context.args:
            raise typer.Exit(_run(arguments, {}, home))
        running_stack(home)
        raise typer.Exit(_run(arguments, _environments(home)["services"][passed.service], home))


def _environments(home: Home) -> dict[str, dict[str, dict[str, str]]]:
    from deploy.local.errors import StackError
    from deploy.local.home import read_json

    content = read_json(home.environments_file)
    if content is None:
        raise StackError(f"the stack in {home.root} is not running; start it with: rappen up")
    return content


def _run(arguments: list[str], environment: dict[str, str], home: Home) -> int:
    """Run a module of this checkout in the caller's own folder, so that the names of files mean what they say."""
    path = os.pathsep.join(part for part in (str(home.root), os.environ.get("PYTHONPATH", "")) if part)
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env={**os.environ, **environment, "PYTHONPATH": path}, check=False).returncode
