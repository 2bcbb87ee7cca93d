"""Brings a whole stack up, keeps it running until it is told to stop, and takes it down in order."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import httpx

from deploy.local.control import only_one
from deploy.local.errors import StackError
from deploy.local.health import HealthServer
from deploy.local.home import Home, write_json
from deploy.local.identity import load_identity
from deploy.local.plan import Options, Plan
from deploy.local.processes import RecordedProcess, end_recorded, recorded_processes
from deploy.local.server import tail
from deploy.local.supervisor import Supervisor
from deploy.local.topics import ensure_topics
from deploy.postgres.bootstrap import SERVICES, bootstrap

READY_TIMEOUT_S = 180.0

_SEED_MODULE = "deploy.simulator.seed"
_SEED_TIMEOUT_S = 120.0
_MIGRATE_TIMEOUT_S = 120.0

Report = Callable[[str], None]
# What is done upon a stack that is ready, for as long as it runs; it is given the content of `stack.json`.
Work = Callable[[dict[str, Any]], Coroutine[Any, Any, None]]


class Stack:
    """One running stack."""

    def __init__(self, home: Home, options: Options, plan: Plan, report: Report) -> None:
        self._home = home
        self._options = options
        self._plan = plan
        self._report = report
        self._supervisor = Supervisor(self._on_change)
        self._health = HealthServer(plan.health_port, {"postgres": plan.postgres_ready, "kafka": plan.kafka_ready})
        self._phase = "starting"
        self._message = "starting"
        self._self = RecordedProcess.of("supervisor", os.getpid(), tier=0, stop_signal=signal.SIGTERM, grace_s=150)

    async def start(self) -> None:
        """Start everything and return when everything is ready and the demo tenant, if wanted, is there."""
        begin = time.monotonic()
        waiting_for = {spec.name for spec in self._plan.all}
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._start(waiting_for)
        except TimeoutError:
            names = sorted(waiting_for) or ["the stack"]
            logs = "\n".join(
                f"the end of {self._home.log_of(name)}:\n{tail(self._home.log_of(name))}" for name in names
            )
            raise StackError(f"not ready within {READY_TIMEOUT_S:.0f} s: {', '.join(names)}\n{logs}") from None
        write_json(self._home.stack_file, self.describe())
        if not self._options.empty:
            await self._seed()
        self._say("ready", f"ready after {time.monotonic() - begin:.1f} s")

    async def stop(self) -> None:
        """Stop everything; `stack.json` goes first, because nothing in it holds any more."""
        self._home.stack_file.unlink(missing_ok=True)
        self._say("stopping", "stopping")
        await self._supervisor.stop()
        await self._health.stop()

    def describe(self) -> dict[str, Any]:
        """Give the content of `stack.json`."""
        addresses = self._plan.addresses
        dsns = {service: self._plan.environments.app_dsn(service) for service in SERVICES}
        return {
            "gateway": addresses.gateway,
            "payments_webhook": addresses.payments_webhook,
            "stripe": addresses.stripe,
            "mail": addresses.mail,
            "kafka": addresses.kafka,
            "postgres": {"admin": addresses.postgres_admin, **dsns},
            "processes": [child.describe() for child in self._supervisor.children],
            "billing_api": addresses.billing,
            "payments_api": addresses.payments,
            "subscriptions_api": addresses.subscriptions,
            "smtp": f"127.0.0.1:{addresses.smtp_port}",
            "clock_file": str(self._home.clock_file),
            "issuer": self._plan.identity.issuer(),
        }

    async def _start(self, waiting_for: set[str]) -> None:
        self._say("starting", "starting PostgreSQL and Kafka")
        write_json(self._home.environments_file, self._describe_environments())
        await self._health.start()
        for spec in (*self._plan.infrastructure, *self._plan.helpers):
            self._supervisor.keep(spec)
        await _together(self._prepare_database(waiting_for), self._prepare_topics(waiting_for))
        self._say("starting", "starting the services")
        for spec in self._plan.services:
            self._supervisor.keep(spec)
        await _together(*(self._wait_ready(name, waiting_for) for name in sorted(waiting_for)))

    async def _wait_ready(self, name: str, waiting_for: set[str]) -> None:
        if name in {child.spec.name for child in self._supervisor.children}:
            await self._supervisor.wait_ready(name)
        elif not await (self._plan.kafka_ready() if name == "kafka" else self._plan.postgres_ready()):
            variable = {"kafka": "RAPPEN_KAFKA", "postgres": "RAPPEN_POSTGRES_ADMIN"}[name]
            raise StackError(f"the given {name} does not answer; start it, or unset {variable} to have one started")
        waiting_for.discard(name)

    async def _prepare_database(self, waiting_for: set[str]) -> None:
        await self._wait_ready("postgres", waiting_for)
        try:
            await bootstrap(self._plan.addresses.postgres_admin, self._plan.identity.passwords)
        except (asyncpg.PostgresError, OSError) as error:
            raise StackError(f"the database and its roles could not be made: {error}") from error
        self._report("migrating the four schemas")
        await _together(*(self._migrate(service) for service in SERVICES))

    async def _migrate(self, service: str) -> None:
        environment = {
            **self._plan.environments.for_command(service),
            **self._plan.environments.for_migration(service),
        }
        await self._run_to_end(
            f"migrate-{service}", [f"services.{service}", "migrate"], environment, _MIGRATE_TIMEOUT_S
        )

    async def _prepare_topics(self, waiting_for: set[str]) -> None:
        from rappen_contracts.registry import TOPICS

        await self._wait_ready("kafka", waiting_for)
        await ensure_topics(self._plan.addresses.kafka, TOPICS)

    async def _seed(self) -> None:
        # The demo tenant comes with the simulator, which a slim installation may leave out.
        if importlib.util.find_spec("deploy.simulator") is None or importlib.util.find_spec(_SEED_MODULE) is None:
            return
        self._say("starting", "making the demo tenant")
        await self._run_to_end("seed", [_SEED_MODULE], {"RAPPEN_HOME": str(self._home.root)}, _SEED_TIMEOUT_S)

    async def _run_to_end(self, name: str, arguments: list[str], environment: dict[str, str], timeout_s: float) -> None:
        log = self._home.log_of(name)
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._home.root,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        try:
            code = await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            raise StackError(f"{name} did not end within {timeout_s:.0f} s:\n{tail(log)}") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code != 0:
            raise StackError(f"{name} failed (exit code {code}); the end of {log}:\n{tail(log)}")

    def _on_change(self) -> None:
        self._write_record()
        # While it starts there is no stack.json: where there is one, each process was ready or waited for the operator.
        if self._phase == "ready" or self._home.stack_file.exists():
            write_json(self._home.stack_file, self.describe())

    def _say(self, phase: str, message: str) -> None:
        self._phase, self._message = phase, message
        self._write_record()
        self._report(message)

    def _write_record(self) -> None:
        records = [child.record for child in self._supervisor.children if child.record is not None]
        write_json(
            self._home.supervisor_file,
            {
                "phase": self._phase,
                "message": self._message,
                "supervisor": self._self.to_json() if self._self else None,
                "processes": [record.to_json() for record in records],
            },
        )

    def _describe_environments(self) -> dict[str, dict[str, dict[str, str]]]:
        environments = self._plan.environments
        return {
            "services": {name: environments.for_command(name) for name in SERVICES},
            "owners": {name: environments.for_migration(name) for name in SERVICES},
        }


async def run_stack(
    home: Home,
    options: Options,
    report: Report,
    on_ready: Callable[[dict[str, Any]], None],
    work: Work | None = None,
) -> None:
    """Bring the stack up, and return after SIGTERM, SIGINT or the end of `work` has taken it down again.

    Raises StackError, with everything stopped again, if it does not come up, or if one is up already.
    """
    home.make()
    with only_one(home):
        home.stack_file.unlink(missing_ok=True)
        left_over = await asyncio.to_thread(end_recorded, recorded_processes(home))
        if left_over:
            report(f"stopped what a supervisor that was killed had left running: {', '.join(left_over)}")
        try:
            await _run_until_told(home, options, report, on_ready, work)
        except StackError as error:
            # For the command that waits for a detached stack.
            write_json(home.supervisor_file, {"phase": "failed", "message": str(error), "processes": []})
            raise
        finally:
            home.environments_file.unlink(missing_ok=True)
        home.supervisor_file.unlink()


async def _run_until_told(
    home: Home,
    options: Options,
    report: Report,
    on_ready: Callable[[dict[str, Any]], None],
    work: Work | None,
) -> None:
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, told_to_stop.set)
    async with httpx.AsyncClient(trust_env=False) as client:
        stack = Stack(home, options, Plan(home, options, load_identity(home), client), report)
        try:
            await _start_unless_told(stack, told_to_stop, on_ready)
            if work is None:
                await told_to_stop.wait()
            elif not told_to_stop.is_set():
                await _work_until_told(work(stack.describe()), told_to_stop)
        finally:
            await stack.stop()


async def _start_unless_told(
    stack: Stack, told_to_stop: asyncio.Event, on_ready: Callable[[dict[str, Any]], None]
) -> None:
    starting = asyncio.create_task(stack.start())
    stopping = asyncio.create_task(told_to_stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        starting.result()
        on_ready(stack.describe())
        return
    starting.cancel()
    await asyncio.wait({starting})


async def _work_until_told(work: Coroutine[Any, Any, None], told_to_stop: asyncio.Event) -> None:
    """Do the work until it ends by itself, fails, or is cut off because the stack is to stop."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(told_to_stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    working.cancel()
    await asyncio.wait({working})
    if not working.cancelled():
        working.result()


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """Run all at once; the first failure cancels the rest and is raised as itself."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
