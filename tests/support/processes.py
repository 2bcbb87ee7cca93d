"""Services as real processes: started, watched, killed and started again."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.ports import free_port
from tests.support.events import USAGE_PARTITIONS
from tests.support.ledger import eventually
from tests.support.stack import ROOT, ServerPair

__all__ = ["Crew", "FaultFolder", "ServiceProcess", "run_command"]

# The shortest session the broker allows, so that the partitions of a killed worker move on soon.
SHORT_SESSION = {"BILLING_KAFKA__SESSION_TIMEOUT_MS": "6000"}


class ServiceProcess:
    """`python -m services.<service> <role>` upon the session's servers."""

    def __init__(
        self,
        servers: ServerPair,
        service: str,
        role: str,
        log: Path,
        *,
        more: Mapping[str, str] | None = None,
        python: str = sys.executable,
        cwd: Path = ROOT,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [python, "-m", f"services.{service}", role]
        self._cwd = cwd
        self._environment = servers.environment(service, port=self.port, more=more)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts without waiting."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=self._cwd, stdout=log, stderr=subprocess.STDOUT
            )

    async def ready(self, timeout_s: float = 60.0) -> None:
        """Waits for readiness; says what the log says when the process ends before."""
        deadline = time.monotonic() + timeout_s
        async with httpx.AsyncClient(trust_env=False) as client:
            while time.monotonic() < deadline:
                if not self.running:
                    raise AssertionError(f"the process ended with {self.exit_code}:\n{self.log_tail()}")
                try:
                    if (await client.get(f"{self.url}/readyz", timeout=2.0)).status_code == 200:
                        return
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.05)
        raise AssertionError(f"not ready in {timeout_s} s:\n{self.log_tail()}")

    @property
    def pid(self) -> int:
        """The process id."""
        if self._process is None:
            raise AssertionError("not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended, or None."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout_s: float = 45.0) -> int:
        """Waits for the end; returns the exit code."""
        if self._process is None:
            raise AssertionError("not started")
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        """Ends it however it is."""
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
        """The whole log."""
        return self._log.read_text(errors="replace")

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over its labels."""
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"{self.url}/metrics", timeout=5.0)).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


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

    async def _partitions_shared(self) -> bool:
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


def run_command(servers: ServerPair, service: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs an operator's command of a service to its end."""
    return subprocess.run(
        [sys.executable, "-m", f"services.{service}", *words],
        env=servers.environment(service, port=1),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


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
