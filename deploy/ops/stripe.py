"""Commands that need several services: each is asked by its own command, because none reads another's schema."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from deploy.ops.services import answer_of, pass_on, stack_home

if TYPE_CHECKING:
    from collections.abc import Sequence

# As far back as payments looks by itself; its time may be ahead of the machine's, never behind.
_PAST = timedelta(days=3)
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

plan = typer.Typer(help="The plan catalogue at Stripe.", no_args_is_help=True)


@plan.command("sync", context_settings=_PASS_ON, add_help_option=False)
def sync(context: typer.Context) -> None:
    """Make products and prices of the plans at Stripe, and report what differs. [--check] [--replace]"""
    if _asks_for_help(context.args):
        raise typer.Exit(pass_on("payments", ["plan", "sync", *context.args], home=None))
    home = stack_home()
    plans = answer_of("subscriptions", ["plans"], home)
    raise typer.Exit(pass_on("payments", ["plan", "sync", *context.args], home=home, input_=plans))


def reconcile(context: typer.Context) -> None:
    """Hand over to payments, with what billing and subscriptions answer."""
    if _asks_for_help(context.args):
        raise typer.Exit(pass_on("payments", ["reconcile", *context.args], home=None))
    home = stack_home()
    since = _since(context.args)
    if since is None:
        # Nobody else is asked: payments refuses it, in the words that were given.
        raise typer.Exit(pass_on("payments", ["reconcile", *context.args], home=home))
    with tempfile.TemporaryDirectory(prefix="rappen-") as folder:
        ledger, records = Path(folder, "ledger.json"), Path(folder, "records.json")
        ledger.write_bytes(answer_of("billing", ["payments", "--since", since], home))
        records.write_bytes(answer_of("subscriptions", ["records"], home))
        files = ["--ledger", str(ledger), "--subscriptions", str(records)]
        raise typer.Exit(pass_on("payments", ["reconcile", *context.args, *files], home=home))


def add_stripe_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(plan, name="plan")
    help_ = "Compare Stripe with payments, ledger and subscriptions. [--from TIME] [--to TIME] [--apply] [--json]"
    app.command("reconcile", help=help_, context_settings=_PASS_ON, add_help_option=False)(reconcile)


def _asks_for_help(words: Sequence[str]) -> bool:
    return "--help" in words or "-h" in words


def _since(words: Sequence[str]) -> str | None:
    """The time from which credits are listed: that of --from, else as payments has it; None where it is no time."""
    from pydantic_core import PydanticCustomError

    from rappen_contracts.types import parse_time

    since = (datetime.now(UTC) - _PAST).isoformat()
    for number, word in enumerate(words):
        if word == "--from" and number + 1 < len(words):
            since = words[number + 1]
        elif word.startswith("--from="):
            since = word.removeprefix("--from=")
    try:
        parse_time(since)
    except PydanticCustomError:
        return None
    return since
