"""What every service's `__main__` does: settings from the environment, one of the roles, an exit code."""

import argparse
import gc
import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import asyncpg
from aiokafka.errors import KafkaConnectionError
from pydantic import ValidationError
from pydantic_settings import SettingsError

from services.chassis.database import is_transient
from services.chassis.logging import configure_command_logging, configure_logging
from services.chassis.migrations import NewerSchemaError, OlderSchemaError, migrate
from services.chassis.output import until_closed
from services.chassis.settings import ServiceSettings
from services.chassis.validation import configuration_faults

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["command", "run_service"]

# The exit code a shell reports for a process ended by Ctrl-C.
INTERRUPTED = 130
# The exit code of `migrate --check` where there is something to migrate.
BEHIND = 3

# What a server says where user, password or database are not those that it has.
_NOT_LET_IN = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)

S = TypeVar("S", bound=ServiceSettings)


def command(module: str, function: str = "run") -> Callable[[Any, Sequence[str]], int]:
    """An operator's command whose module is imported when it is called: no other command starts slower for it."""

    def imported(settings: Any, arguments: Sequence[str]) -> int:
        run: Callable[[Any, Sequence[str]], int] = getattr(importlib.import_module(module), function)
        return run(settings, arguments)

    return imported


def run_service(
    name: str,
    settings_class: type[S],
    *,
    roles: Sequence[str],
    serve: Callable[[S, str], None],
    commands: Mapping[str, Callable[[S, Sequence[str]], int]],
    migrations: Path,
    application: "Callable[[], FastAPI]",
) -> int:
    """Runs `python -m services.<name> <role or command>`; returns the exit code.

    `application` is the one whose routes the service's OpenAPI document describes.
    """
    words = [*roles, "migrate", "openapi", *commands]
    if len(sys.argv) < 2 or sys.argv[1] not in words:
        print(f"usage: python -m services.{name} {'|'.join(words)}", file=sys.stderr)  # noqa: T201
        return 2
    word, arguments = sys.argv[1], sys.argv[2:]
    if word == "openapi":
        # The web stack is loaded for it alone; other commands start faster without.
        from services.chassis.documents import document_command  # noqa: PLC0415

        return document_command(name, application, arguments)
    if word in ("migrate", *commands) and _ask_for_help(arguments):
        # Its parser explains and ends before anything is looked up, so what is not configured does not matter.
        settings: S | None = cast("S", settings_class.model_construct())
    else:
        settings = _read_settings(name, settings_class)
    if settings is None:
        return 2
    if word == "migrate":
        return _in_a_line(word, lambda: _migrate(name, settings, migrations, arguments))
    if word in commands:
        configure_command_logging()
        return _in_a_line(word, lambda: until_closed(lambda: commands[word](settings, arguments)))
    configure_logging(service=name, role=word, instance=settings.instance)
    # Nearly all that is imported stays, so that to look for garbage meanwhile is a fifth of the start for nothing;
    # `run_process` collects once and begins again.
    gc.disable()
    serve(settings, word)
    return 0


def _migrate(name: str, settings: ServiceSettings, folder: Path, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m services.{name} migrate")
    told = f"only say whether there is something to migrate: exit code {BEHIND} if so"
    parser.add_argument("--check", action="store_true", help=told)
    check: bool = parser.parse_args(arguments).check
    if settings.database_owner_url is None:
        print(f"{name.upper()}_DATABASE_OWNER_URL is needed to migrate", file=sys.stderr)  # noqa: T201
        return 2
    owner_url = settings.database_owner_url.get_secret_value()
    try:
        revision = migrate(owner_url, schema=name, folder=folder, check=check)
    except (NewerSchemaError, OlderSchemaError) as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201
        return BEHIND if isinstance(error, OlderSchemaError) else 1
    print(f"{name}: at revision {revision}")  # noqa: T201
    return 0


def _in_a_line(word: str, command: Callable[[], int]) -> int:
    try:
        return command()
    except Exception as error:
        if not (is_transient(error) or isinstance(error, (KafkaConnectionError, *_NOT_LET_IN))):
            raise
        # A server is away or lets nobody in, which an operator reads in a line better than in a traceback.
        cause = error.__cause__ or error
        print(f"rappen {word}: {str(cause) or type(cause).__name__}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _ask_for_help(arguments: Sequence[str]) -> bool:
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--help" in options or "-h" in options


def _read_settings(name: str, settings_class: type[S]) -> S | None:
    """The settings from the environment; None, with the faults on standard error, where it is not valid."""
    try:
        return settings_class()
    except ValidationError as error:
        # The values are not shown: some are secrets.
        for place, text in configuration_faults(error):
            variable = "__".join([name, *place]).upper()
            print(f"{variable.replace('__', '_', 1)}: {text}", file=sys.stderr)  # noqa: T201
        return None
    except SettingsError as error:
        # It says which one in its text alone.
        named = re.search(r'"(\w+)"', str(error))
        variable = f"{name}_{named[1] if named else ''}".upper()
        print(f"{variable}: JSON is expected; the parts of a group are set as {variable}__NAME", file=sys.stderr)  # noqa: T201
        return None
