"""The stack on this machine as a person or a program uses it: the command, `stack.json`, and HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psutil

__all__ = ["Machine"]

RAPPEN = str(Path(sys.executable).parent / "rappen")
# The stack is to bring its own servers.
GIVEN_SERVERS = ("RAPPEN_POSTGRES_ADMIN", "RAPPEN_KAFKA")


class Machine:
    """A folder of its own as the home, so that no other stack is touched."""

    def __init__(self, home: Path, *, rappen: str = RAPPEN) -> None:
        self.home = home
        self._rappen = rappen
        self.stack_file = home / ".rappen" / "stack.json"
        self.environment = {name: text for name, text in os.environ.items() if name not in GIVEN_SERVERS}
        self.environment["RAPPEN_HOME"] = str(home)
        self._http = httpx.Client(trust_env=False, timeout=15)
        self._tokens: dict[tuple[str, ...], str] = {}

    def run(self, *arguments: str, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        """Runs `rappen` to its end."""
        return subprocess.run(
            [self._rappen, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def succeed(self, *arguments: str) -> str:
        """Runs `rappen`, expects exit code 0 and gives what it printed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *arguments: str, output: Path) -> subprocess.Popen[bytes]:
        """Starts `rappen` in the background, as a shell would, its output in a file."""
        with output.open("wb") as file:
            return subprocess.Popen(
                [self._rappen, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def stack(self) -> dict[str, Any]:
        """The content of `stack.json` now."""
        content: dict[str, Any] = json.loads(self.stack_file.read_text())
        return content

    def process(self, name: str) -> dict[str, Any]:
        """One process of `stack.json`."""
        return next(process for process in self.stack["processes"] if process["name"] == name)

    def kill(self, name: str) -> int:
        """Ends a process as a power cut would; gives its pid."""
        pid: int = self.process(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        return pid

    def ready(self, name: str) -> bool:
        """Whether a process answers 200 at its health address."""
        try:
            return self._http.get(self.process(name)["health"]).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def running(self) -> list[str]:
        """The command lines of everything that works in or for this home."""
        found = []
        for process in psutil.process_iter(["cmdline", "cwd", "status"]):
            words = process.info["cmdline"] or []
            about = " ".join(words) + f" ({process.info['cwd']})"
            if str(self.home) in about and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(about)
        return found

    def token(self, *arguments: str) -> str:
        """A development token, as `rappen token` prints it."""
        if arguments not in self._tokens:
            self._tokens[arguments] = self.succeed("token", *arguments).strip()
        return self._tokens[arguments]

    def call(self, method: str, path: str, token: str, body: object = None, *, expect: int = 200) -> Any:
        """Calls the gateway; the JSON of the answer with exact numbers."""
        answer = self._http.request(
            method,
            f"{self.stack['gateway']}{path}",
            headers={"authorization": f"Bearer {token}"},
            json=body,
        )
        assert answer.status_code == expect, answer.text
        return json.loads(answer.content, parse_float=Decimal)

    def record(self, event: object, token: str) -> Any:
        """Sends one usage event through the gateway, which takes it; the JSON of the answer."""
        answer = self._http.post(
            f"{self.stack['gateway']}/api/usage",
            headers={"authorization": f"Bearer {token}", "content-type": "application/cloudevents+json"},
            content=json.dumps(event),
        )
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        return answer.json()

    def http(self, method: str, url: str, body: object = None) -> httpx.Response:
        """Calls anything else."""
        return self._http.request(method, url, json=body)

    def close(self) -> None:
        """Stops what a failed test left running."""
        self._http.close()
        self.run("down", "--purge", timeout_s=180)
