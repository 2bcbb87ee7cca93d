"""`rappen up`, `status`, `down`: the stack's life. What takes long to import is imported where it is needed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.local.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.local.home import Home
    from deploy.local.plan import Options
    from deploy.local.stack import Work

Workers = Annotated[int, typer.Option(min=1, max=16, help="Number of billing workers.")]
Gateways = Annotated[int, typer.Option(min=1, max=16, help="Number of gateways, on one port.")]
Ports = Annotated[
    list[str] | None, typer.Option(help="Port of a process, as NAME=PORT; may be repeated. Free ones otherwise.")
]

DEFAULT_WORKERS = 2

_POLL_S = 0.1
# Beyond the supervisor's own limits for readiness and the demo tenant, for a supervisor that hangs.
_DETACHED_TIMEOUT_S = 330.0


def up(
    *,
    detach: Annotated[bool, typer.Option("--detach", help="Return when everything is ready.")] = False,
    empty: Annotated[bool, typer.Option("--empty", help="Make no demo tenant.")] = False,
    workers: Workers = DEFAULT_WORKERS,
    gateways: Gateways = 1,
    no_limits: Annotated[bool, typer.Option("--no-limits", help="Lift the rate limits.")] = False,
    port: Ports = None,
    frontend_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin of a frontend elsewhere that may call the gateway; may be repeated."),
    ] = None,
) -> None:
    """Start the whole platform: PostgreSQL, Kafka, the services, a fake Stripe and a mail catcher."""
    options = make_options(
        empty=empty,
        workers=workers,
        gateways=gateways,
        rate_limits=not no_limits,
        port=port,
        frontend_origin=frontend_origin,
    )
    if detach:
        _up_detached(_free_home(), options)
    else:
        run_in_foreground(options)


def status() -> None:
    """Show one line for each process, and how much waits for the operator; exit code 1 if a process is not ready."""
    from rich.console import Console

    from deploy.local.control import running_stack
    from deploy.local.home import find_home
    from deploy.ops.overview import look, table
    from deploy.ops.pending import count_pending

    stack = running_stack(find_home())

    # One after the other: what counts is slow to import, and would keep the broker's answers waiting.
    rows = asyncio.run(look(stack))
    pending = asyncio.run(count_pending(stack))
    Console(width=None if sys.stdout.isatty() else 120).print(table(rows))
    for line in pending.lines() if pending is not None else ():
        print(line)
    if not all(row.ready for row in rows):
        raise typer.Exit(1)


def down(
    purge: Annotated[bool, typer.Option("--purge", help="Also delete all data, secrets and logs.")] = False,
) -> None:
    """Stop exactly what `up` started."""
    from deploy.local.control import stop_stack
    from deploy.local.home import find_home

    home = find_home()
    stopped = stop_stack(home, purge=purge)
    print(f"stopped {len(stopped)} processes" if stopped else f"nothing was running in {home.root}")
    if purge:
        print(f"deleted {home.folder}")


def make_options(
    *,
    empty: bool = False,
    workers: int,
    gateways: int = 1,
    rate_limits: bool = True,
    port: list[str] | None,
    frontend_origin: list[str] | None = None,
) -> Options:
    """Give the options of a stack from those of the command line."""
    from deploy.local.plan import Options

    return Options(
        empty=empty,
        workers=workers,
        gateways=gateways,
        rate_limits=rate_limits,
        ports=_ports(port or ()),
        frontend_origins=_origins(frontend_origin or ()),
    )


def run_in_foreground(options: Options, work: Work | None = None) -> None:
    """Run a stack until Ctrl-C, or until the work done upon it ends."""
    from rich.console import Console

    from deploy.local.stack import run_stack

    home = _free_home()
    console = Console()
    with console.status("starting") as line:

        def ready(stack: dict[str, Any]) -> None:
            line.stop()
            _print_stack(stack)
            console.print("Ctrl-C stops everything.")

        def report(message: str) -> None:
            try:
                line.update(message)
                if not console.is_terminal or message == "stopping":
                    console.print(message, highlight=False)
            except OSError:
                return  # The terminal was closed: nobody reads this, and the stack is to be stopped all the same.

        _log_to_standard_error()
        asyncio.run(run_stack(home, options, report, ready, work))


def _free_home() -> Home:
    """Give the home, unless a stack runs in it."""
    from deploy.local.control import is_held
    from deploy.local.home import find_home

    home = find_home()
    if is_held(home):
        raise StackError(f"a stack is already running in {home.root}; see: rappen status, stop it with: rappen down")
    return home


def _up_detached(home: Home, options: Options) -> None:
    from deploy.local.control import running_stack
    from deploy.local.home import read_json

    home.make()
    # What an earlier supervisor left as its last words must not be taken for this one's. What it left running is still
    # needed there: the new one stops it first.
    earlier = read_json(home.supervisor_file)
    if earlier is not None and earlier["phase"] == "failed":
        home.supervisor_file.unlink(missing_ok=True)
    supervisor = _start_supervisor(home, options)
    try:
        _wait_until_ready(home, supervisor, earlier)
    except KeyboardInterrupt:
        # The supervisor has a session of its own, which Ctrl-C does not reach: it would go on starting.
        print("stopping what has been started", file=sys.stderr)
        supervisor.terminate()
        supervisor.wait()
        raise
    _print_stack(running_stack(home))


def _wait_until_ready(home: Home, supervisor: subprocess.Popen[bytes], earlier: dict[str, Any] | None) -> None:
    from rich.console import Console

    from deploy.local.home import read_json

    deadline = time.monotonic() + _DETACHED_TIMEOUT_S
    with Console(stderr=True).status("starting") as line:
        while True:
            record = read_json(home.supervisor_file)
            phase = record["phase"] if record and record != earlier else "starting"
            if phase == "ready":
                break
            if supervisor.poll() is not None:
                raise StackError(_last_words(home, record if phase == "failed" else None))
            if time.monotonic() > deadline:
                raise StackError(f"the supervisor hangs, see {home.log_of('supervisor')}; stop it with: rappen down")
            if record and phase == "starting":
                line.update(record["message"])
            time.sleep(_POLL_S)


def _start_supervisor(home: Home, options: Options) -> subprocess.Popen[bytes]:
    with home.log_of("supervisor").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.local.daemon", json.dumps(asdict(options))],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home.root,
            env={**os.environ, "RAPPEN_HOME": str(home.root)},
            # A session of its own: it outlives this terminal.
            start_new_session=True,
        )


def _last_words(home: Home, record: dict[str, Any] | None) -> str:
    from deploy.local.server import tail

    if record is not None:
        return str(record["message"])
    log = home.log_of("supervisor")
    return f"the supervisor ended; the end of {log}:\n{tail(log)}"


def _ports(texts: Sequence[str]) -> dict[str, int]:
    ports: dict[str, int] = {}
    for text in texts:
        name, number = _port(text)
        for other, taken in ports.items():
            if name == other or number == taken:
                raise StackError(f"--port {text} contradicts {other}={taken}: give each process a port of its own")
        ports[name] = number
    return ports


def _origins(texts: Sequence[str]) -> tuple[str, ...]:
    if not texts:
        return ()
    from pydantic import TypeAdapter, ValidationError

    from services.gateway.settings import Origin

    for text in texts:
        try:
            TypeAdapter(Origin).validate_python(text)
        except ValidationError:
            raise StackError(
                f"--frontend-origin takes scheme, host and port alone, as in https://app.example.com, not {text}"
            ) from None
    return tuple(texts)


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= 65535:
        raise StackError(f"--port takes NAME=PORT, as in gateway=8080, a port from 1 to 65535, not {text}")
    return name, int(number)


def _print_stack(stack: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for label, key in (
        ("gateway", "gateway"),
        ("mails", "mail"),
        ("fake Stripe", "stripe"),
        ("Kafka", "kafka"),
    ):
        grid.add_row(label, str(stack[key]))
    grid.add_row("processes", str(len(stack["processes"])))
    console = Console()
    console.print(grid)
    console.print("Details: .rappen/stack.json, rappen status. A token: rappen token --user ID", highlight=False)


def _log_to_standard_error() -> None:
    """Let the supervisor's warnings, such as a process that died, appear between the lines of the status."""
    import logging

    from rich.console import Console
    from rich.logging import RichHandler

    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_path=False)],
    )
