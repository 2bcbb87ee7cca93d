"""The operator's commands explain themselves, and end in order when their reader does."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from deploy.ops.main import make_app
from services.billing.commands import COMMANDS as BILLING
from services.chassis import dead_letters
from services.chassis.output import CLOSED_PIPE, until_closed
from services.payments.commands import COMMANDS as PAYMENTS

RAPPEN = str(Path(sys.executable).parent / "rappen")
OF_SERVICES: Mapping[str, Callable[[Any, Sequence[str]], int]] = {**BILLING, **PAYMENTS, "dlq": dead_letters.run}


class _TakenError(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def _parser(name: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that a command would read its words with."""

    def take(parser: argparse.ArgumentParser, _: object = None) -> None:
        raise _TakenError(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", take)
    with pytest.raises(_TakenError) as taken:
        OF_SERVICES[name](None, [])
    return taken.value.parser


def _with_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert [choice.help for choice in action._choices_actions if not choice.help] == []
            for below in action.choices.values():
                yield from _with_actions(below)


@pytest.mark.parametrize("name", sorted(OF_SERVICES))
def test_a_command_of_a_service_calls_itself_rappen_and_explains_every_option(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = _parser(name, monkeypatch)
    assert parser.prog == f"rappen {name}"
    assert parser.description
    for part in _with_actions(parser):
        explained = [action for action in part._actions if not isinstance(action, argparse._SubParsersAction)]
        assert [action.dest for action in explained if not action.help] == [], part.prog


def test_rappen_has_every_command_of_the_services_and_explains_every_option() -> None:
    app: Any = typer.main.get_command(make_app())
    assert app.commands.keys() >= OF_SERVICES.keys()
    for name, command in app.commands.items():
        assert command.help, name
        assert [option.name for option in command.params if not getattr(option, "help", None)] == [], name


# Little enough to be written only at the end, and more than any buffer holds.
PRINTS = "import sys; from services.chassis.output import until_closed; sys.exit(until_closed(lambda: {} or 0))"
COMMAND = [sys.executable, "-c"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([RAPPEN, "--help"], 1),
        ([RAPPEN, "token", "--help"], 1),
        ([*COMMAND, PRINTS.format("print('a line')")], CLOSED_PIPE),
        ([*COMMAND, PRINTS.format("[print('a line') for _ in range(100_000)] and 0")], CLOSED_PIPE),
    ],
)
def test_a_reader_that_leaves_is_no_fault(words: list[str], code: int) -> None:
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # The reading end is closed before anything is written.
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (code, "")


def test_a_pipe_that_is_not_the_output_stays_a_fault() -> None:
    def command() -> int:
        raise BrokenPipeError("a socket")

    with pytest.raises(BrokenPipeError, match="a socket"):
        until_closed(command)
