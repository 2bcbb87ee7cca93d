"""The one launcher of our programs as real processes; and supervised billing workers that are killed and restarted."""

import asyncio
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import ClassVar, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.ports import free_port
from tests.support.events import USAGE_PARTITIONS
from tests.support.fork_server import ForkedProcess, can_be_forked, fork
from tests.support.stack import ROOT, ServerPair
from tests.support.waiting import eventually, wait_until

__all__ = ["SHORT_SESSION", "Crew", "FaultFolder", "Process", "ServiceProcess", "all_ready", "run_command"]

# The shortest session the broker allows, so that the partitions of a killed worker move on soon.
SHORT_SESSION = {"BILLING_KAFKA__SESSION_TIMEOUT_MS": "6000"}

COMMAND_TIMEOUT_S = 120.0

# No connection is kept, so that none is in the way of a process that ends.
_http = httpx.Client(trust_env=False, timeout=30.0, limits=httpx.Limits(max_keepalive_connections=0))


class Process:
    """A program of ours as a real process: started, watched, killed, started again.

    As an asynchronous context it is ready inside, and has to end by itself and without a fault when told to. In the
    suite what `fork_server` knows is forked there, unless a test that is about a start or memory wants it `anew`.
    """

    # A program that has nothing to finish may end by the signal itself.
    good_ends: ClassVar[tuple[int, ...]] = (0, -signal.SIGTERM)
    # The suite sets it; the benchmarks measure processes as they are in production.
    forking: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        ready_url: str,
        log: Path | None = None,
        cwd: Path = ROOT,
        anew: bool = False,
    ) -> None:
        self._name = name
        self._command = list(command)
        self._forked = self.forking and not anew and can_be_forked(command, environment, cwd)
        self._environment = environment
        self._ready_url = ready_url
        self._log = log
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | ForkedProcess | None = None

    def start(self) -> None:
        """Starts without waiting."""
        if self._forked:
            self._process = fork(self._command, self._environment, stdout=self._log, stderr=self._log)
            return
        with self._log.open("ab") if self._log else nullcontext() as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=self._cwd, stdout=log, stderr=log and subprocess.STDOUT
            )

    async def ready(self, timeout_s: float = 120.0) -> None:
        """Waits for readiness; says what the log says when the process ends before, or is late."""
        await asyncio.to_thread(self.wait_ready, timeout_s)

    def wait_ready(self, timeout_s: float = 120.0) -> None:
        """The same where no event loop runs."""
        try:
            wait_until(self._answers, what=f"{self._name} is ready", timeout_s=timeout_s)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.log_tail()}") from None

    def _answers(self) -> bool:
        if not self.running:
            raise AssertionError(f"{self._name} ended with {self.exit_code}")
        try:
            return _http.get(self._ready_url).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def __aenter__(self) -> Self:
        self.start()
        try:
            await self.ready()
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        ran = self.running
        await asyncio.to_thread(self.stop)
        if kind is None and ran:
            assert self.exit_code in self.good_ends, f"{self._name} ended with {self.exit_code}\n{self.log_tail()}"

    @property
    def pid(self) -> int:
        """The process id."""
        return self._started.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """SIGKILL."""
        self._started.kill()
        self.wait()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self._started.terminate()

    def wait(self, timeout_s: float = 60.0) -> int:
        """Waits for the end; returns the exit code."""
        return self._started.wait(timeout_s)

    def stop(self) -> None:
        """Ends the process, whatever state it is in."""
        if self.running:
            self.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()

    def memory_bytes(self) -> int:
        """Resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def log_tail(self, lines: int = 30) -> str:
        """The end of the log."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def log_text(self) -> str:
        """The whole log; nothing when what it says goes where the tests' own output goes."""
        return self._log.read_text(errors="replace") if self._log else ""

    @property
    def _started(self) -> "subprocess.Popen[bytes] | ForkedProcess":
        if self._process is None:
            raise AssertionError(f"{self._name} was not started")
        return self._process


class ServiceProcess(Process):
    """`python -m services.<service> <role>` upon the session's servers; `more` are its settings beyond those."""

    good_ends = (0,)

    def __init__(
        self,
        servers: ServerPair,
        service: str,
        role: str,
        log: Path,
        *,
        more: Mapping[str, str] | None = None,
        port: int | None = None,
        internal_port: int | None = None,
        python: str = sys.executable,
        cwd: Path = ROOT,
        anew: bool = False,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Of health and metrics; the same as for everything else, except at the gateway.
        self.internal_port = internal_port or self.port
        self.internal_url = f"http://127.0.0.1:{self.internal_port}"
        self.settings = dict(more or {})
        super().__init__(
            f"{service} {role}",
            [python, "-m", f"services.{service}", role],
            environment=servers.environment(service, port=self.port, more=self.settings),
            ready_url=f"{self.internal_url}/readyz",
            log=log,
            cwd=cwd,
            anew=anew,
        )

    def is_held_up(self, reason: str) -> bool:
        """Whether it says that it is not ready, and this among the reasons."""
        answer = _http.get(f"{self.internal_url}/readyz")
        return answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and reason in answer.text

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over its labels."""
        text = (await asyncio.to_thread(_http.get, f"{self.internal_url}/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@asynccontextmanager
async def all_ready(*processes: Process) -> AsyncIterator[None]:
    """Starts them together; each is ready inside the block and has to end well after it."""
    async with AsyncExitStack() as started:
        for process in processes:
            process.start()
            started.push_async_exit(process)
        await asyncio.gather(*(process.ready() for process in processes))
        yield


class Crew:
    """Billing workers and their supervisor, which starts again what dies."""

    def __init__(self, servers: ServerPair, folder: Path, *, more: Mapping[str, str] | None = None) -> None:
        self._servers = servers
        self._folder = folder
        self._more = {**SHORT_SESSION, **(more or {})}
        self.workers: list[ServiceProcess] = []
        self.restarts = 0

    def hire(self) -> ServiceProcess:
        """Starts one more worker, without waiting for it."""
        name = f"worker-{len(self.workers) + 1}"
        worker = ServiceProcess(
            self._servers,
            "billing",
            "worker",
            self._folder / f"{name}.log",
            more={**self._more, "BILLING_INSTANCE": name},
        )
        worker.start()
        self.workers.append(worker)
        return worker

    async def supervise(self) -> None:
        """Starts dead workers again, until cancelled."""
        while True:
            for worker in self.workers:
                if worker.exit_code is not None:
                    self.restarts += 1
                    worker.start()
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def at_work(self, count: int) -> AsyncIterator["Crew"]:
        """So many workers under supervision; stopped at the end."""
        for _ in range(count):
            self.hire()
        supervisor = asyncio.create_task(self.supervise())
        try:
            yield self
        finally:
            supervisor.cancel()
            self.stop()

    async def sharing(self) -> None:
        """Waits until each of them is ready and has some of the partitions of usage, none of them all."""
        await asyncio.gather(*(worker.ready() for worker in self.workers))
        await eventually(self._partitions_shared, what="partitions at every worker")

    def _partitions_shared(self) -> bool:
        # By the newest assignment that each has logged.
        newest = [
            [
                line
                for line in worker.log_text().splitlines()
                if "partitions assigned" in line and '"usage.recorded-' in line
            ]
            for worker in self.workers
        ]
        return all(lines and lines[-1].count('"usage.recorded-') < USAGE_PARTITIONS for lines in newest)

    async def has_tried_again(self) -> bool:
        """Whether a batch of usage was tried again for a fault that passes."""
        return await self.metric("rappen_transient_retries_total", topic="usage.recorded") > 0

    def stop(self) -> None:
        """Stops all of them, at the same time."""
        for worker in self.workers:
            if worker.running:
                worker.terminate()
        for worker in self.workers:
            worker.stop()

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over the workers that live; each counts from its last start."""
        total = 0.0
        for worker in self.workers:
            try:
                total += await worker.metric(name, **labels)
            except httpx.TransportError:
                continue  # It is dead or only begins: nothing is counted yet.
        return total


def run_command(
    servers: ServerPair,
    service: str,
    *words: str,
    more: Mapping[str, str] | None = None,
    input_: str = "",
    anew: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Runs an operator's command of a service to its end; `input_` is what it reads. It is forked as a process is."""
    command = [sys.executable, "-m", f"services.{service}", *words]
    environment = servers.environment(service, port=1, more=more)
    if Process.forking and not anew and can_be_forked(command, environment, ROOT):
        return _run_forked(command, environment, input_)
    return subprocess.run(
        command,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        input=input_,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def _run_forked(
    command: Sequence[str], environment: Mapping[str, str], input_: str
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        stdin, stdout, stderr = (Path(folder) / name for name in ("stdin", "stdout", "stderr"))
        stdin.write_text(input_)
        running = fork(command, environment, stdin=stdin, stdout=stdout, stderr=stderr)
        try:
            code = running.wait(COMMAND_TIMEOUT_S)
        finally:
            running.kill()
        return subprocess.CompletedProcess(command, code, stdout.read_text(), stderr.read_text())


class FaultFolder:
    """Arms placed faults, and proves that they happened."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._armed = 0

    @property
    def settings(self) -> dict[str, str]:
        """The setting that gives the folder to a billing process."""
        return {"BILLING_FAULTS_FOLDER": str(self.folder)}

    def arm(self, point: str, times: int = 1) -> None:
        """The next so many times that a process reaches the point, it dies there by SIGKILL."""
        for _ in range(times):
            self._armed += 1
            (self.folder / f"{point}.{self._armed:04}.arm").touch()

    def hits(self, point: str) -> int:
        """How often a process died there."""
        return len(list(self.folder.glob(f"{point}.*.hit")))
