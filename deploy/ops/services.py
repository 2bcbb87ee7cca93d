"""The commands that the services themselves implement: run with the environment of the stack, exit code passed on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.local.errors import StackError
from deploy.ops.pending import CONSUMERS

if TYPE_CHECKING:
    from deploy.local.home import Home

# The exit code of a service's `migrate --check` where there is something to migrate.
_BEHIND = 3
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


@dataclass(frozen=True)
class Passed:
    """A command that is handed over, with all that follows it, to a service."""

    name: str
    service: str
    help: str


_COMMANDS = (
    Passed("audit", "billing", "Check the books; exit code 1 if a check fails. [--json]"),
    Passed("dlq", "billing", "Dead letters: list, show, replay, close; resume TOPIC. [--service NAME]"),
    Passed("unpriced", "billing", "Usage and payments that wait for a price or a rate. [--limit N] [--json]"),
    Passed("unknown", "billing", "Usage of mandates and members unknown to the directory. [--limit N] [--json]"),
    Passed("prices", "billing", "Prices: import FILE [--format rappen|litellm] [--valid-from TIME] [--apply] [--all]."),
    Passed("explain", "billing", "What a transaction came from, from event to amount: TRANSACTION_ID [--json]."),
    Passed("reverse", "billing", "Cancel usage and take back its charge: MANDATE EVENT_ID --reason TEXT."),
    Passed("rerate", "billing", "Price charges again: --from TIME --to TIME [--provider P] [--model M] [--apply]."),
    Passed("vat", "billing", "Rates of VAT on invoices: list, add COUNTRY DAY PERCENT."),
    Passed("ensure", "billing", "Settings for every mandate of the directory, an account for every member."),
    Passed("events", "payments", "Webhook events from Stripe: list, show, retry."),
    Passed("payments", "billing", "Payments credited and refunds taken back since a time, as JSON: --since TIME."),
    Passed("stripe", "payments", "What came from Stripe and is asked of it: events list|show|retry, requests."),
)


def stack_home() -> Home:
    """The home of the stack, which has to run."""
    from deploy.local.control import running_stack
    from deploy.local.home import find_home

    home = find_home()
    running_stack(home)
    return home


def pass_on(service: str, words: list[str], *, home: Home | None, input_: bytes | None = None) -> int:
    """Run a command of a service as the operator's own; without a home, without the settings of a stack."""
    from deploy.local.home import find_home

    environment = {} if home is None else _environments(home)["services"][service]
    if input_ is None:
        return _run([f"services.{service}", *words], environment, home or find_home())
    command, variables = _command([f"services.{service}", *words], environment, home or find_home())
    return subprocess.run(command, env=variables, input=input_, check=False).returncode


def answer_of(service: str, words: list[str], home: Home) -> bytes:
    """What a command of a service prints; where it fails, it has said why."""
    command, variables = _command([f"services.{service}", *words], _environments(home)["services"][service], home)
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise StackError(f"{service} does not answer")
    return done.stdout


def add_service_commands(app: typer.Typer) -> None:
    """Add the commands that the services implement."""
    app.command()(migrate)
    for passed in _COMMANDS:
        _add(app, passed)


def migrate() -> None:
    """Say whether the schemas of all four services are at the newest version, to which `up` brings them."""
    from deploy.local.control import running_stack
    from deploy.local.home import find_home

    home = find_home()
    running_stack(home)
    environments = _environments(home)
    codes = {
        service: _run(
            [f"services.{service}", "migrate", "--check"], {**environment, **environments["owners"][service]}, home
        )
        for service, environment in environments["services"].items()
    }
    if _BEHIND in codes.values():
        # What they write after a migration lacks what it brings, so that it is not migrated below them.
        raise StackError(
            "the services that run are of an earlier release; nothing was migrated: "
            "stop them with: rappen down, and start them with: rappen up, which migrates"
        )
    failed = [service for service, code in codes.items() if code != 0]
    print(f"failed: {', '.join(failed)}" if failed else "there is nothing to migrate")
    raise typer.Exit(1 if failed else 0)


def _add(app: typer.Typer, passed: Passed) -> None:
    # The service has the options, so the service explains them too.
    def hand_over(context: typer.Context) -> None:
        _hand_over(passed.service, passed.name, context.args)

    # Every consumer has dead letters of its own, and the same command for them.
    function = dead_letters if passed.name == "dlq" else hand_over
    app.command(passed.name, help=passed.help, context_settings=_PASS_ON, add_help_option=False)(function)


def dead_letters(
    context: typer.Context,
    service: Annotated[str, typer.Option(help=f"Whose dead letters: {' or '.join(CONSUMERS)}.")] = CONSUMERS[0],
) -> None:
    """Hand over to one of the services that consume."""
    if service not in CONSUMERS:
        raise StackError(f"--service is {' or '.join(CONSUMERS)}, not {service}")
    _hand_over(service, "dlq", context.args)


def _hand_over(service: str, name: str, words: list[str]) -> None:
    from deploy.local.control import running_stack
    from deploy.local.home import find_home

    home = find_home()
    arguments = [f"services.{service}", name, *words]
    if "--help" in words or "-h" in words:
        code = _run(arguments, {}, home)
        if name == "dlq":
            print(f"\nrappen dlq --service NAME: whose, {' or '.join(CONSUMERS)} (default: {CONSUMERS[0]})")
        raise typer.Exit(code)
    running_stack(home)
    raise typer.Exit(_run(arguments, _environments(home)["services"][service], home))


def _environments(home: Home) -> dict[str, dict[str, dict[str, str]]]:
    from deploy.local.home import read_json

    content = read_json(home.environments_file)
    if content is None:
        raise StackError(f"the stack in {home.root} is not running; start it with: rappen up")
    return content


def _run(arguments: list[str], environment: dict[str, str], home: Home) -> int:
    """Run a module of this checkout in the caller's own folder, so that the names of files mean what they say."""
    command, variables = _command(arguments, environment, home)
    # Ctrl-C reaches both. It is left to this process, which ends the other: that would answer with a traceback.
    answer = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(command, env=variables)
    finally:
        signal.signal(signal.SIGINT, answer)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise


def _command(arguments: list[str], environment: dict[str, str], home: Home) -> tuple[list[str], dict[str, str]]:
    path = os.pathsep.join(part for part in (str(home.root), os.environ.get("PYTHONPATH", "")) if part)
    return [sys.executable, "-m", *arguments], {**os.environ, **environment, "PYTHONPATH": path}
