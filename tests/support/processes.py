"""Services as real processes: started, watched, killed and started again."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from deploy.local.ports import free_port
from tests.support.stack import ROOT, ServerPair

__all__ = ["FaultFolder", "ServiceProcess"]


class ServiceProcess:
    """`python -m services.<service> <role>` upon the session's servers."""

    def __init__(
        self, servers: ServerPair, service: str, role: str, log: Path, *, more: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", f"services.{service}", role]
        self._environment = servers.environment(service, port=self.port, more=more)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts without waiting."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
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
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


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
