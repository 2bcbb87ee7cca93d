"""Where a stack keeps its files, and how they are written."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.errors import StackError


@dataclass(frozen=True)
class Home:
    """The root of a checkout; everything a stack writes is in its folder `.rappen`."""

    root: Path

    @property
    def folder(self) -> Path:
        """The folder of this checkout's stack."""
        return self.root / ".rappen"

    @property
    def logs(self) -> Path:
        """One log file for each process."""
        return self.folder / "log"

    @property
    def data(self) -> Path:
        """What the servers store."""
        return self.folder / "data"

    @property
    def state(self) -> Path:
        """Secrets, ports and the record of what runs."""
        return self.folder / "state"

    @property
    def stack_file(self) -> Path:
        """The description for people and programs; there from ready to stop."""
        return self.folder / "stack.json"

    @property
    def supervisor_file(self) -> Path:
        """Which processes there are, from the first one's start on; what `down` goes by."""
        return self.state / "supervisor.json"

    @property
    def environments_file(self) -> Path:
        """The environment of each service, for operator commands."""
        return self.state / "environments.json"

    @property
    def clock_file(self) -> Path:
        """How far the platform's time is ahead; it stays with the data, whose times are by it."""
        return self.data / "clock.json"

    @property
    def advance_file(self) -> Path:
        """An advance of the time that has begun; there until it is made."""
        return self.data / "clock-advance.json"

    def log_of(self, name: str) -> Path:
        """Give the log file of a process."""
        return self.logs / f"{name}.log"

    def make(self) -> None:
        """Make the folders. Only their owner may look into the one with the secrets."""
        try:
            for folder in (self.folder, self.logs, self.data):
                folder.mkdir(parents=True, exist_ok=True)
            self.state.mkdir(mode=0o700, exist_ok=True)
            # So that no checkout ever offers its secrets to version control, whatever its own list of ignored files
            # says.
            (self.folder / ".gitignore").write_text("*\n")
        except OSError as error:
            raise StackError(
                f"{self.folder} cannot be written ({error.strerror}); name another folder for it: RAPPEN_HOME=FOLDER"
            ) from error


def find_home() -> Home:
    """Give the home: `RAPPEN_HOME`, else the checkout around the working folder or this code, else that folder itself.

    The last is for code that is installed: nothing is ever written beside it.
    """
    given = os.environ.get("RAPPEN_HOME")
    if given:
        root = Path(given).expanduser().resolve()
        if not root.is_dir():
            raise StackError(f"RAPPEN_HOME is not a folder: {root}")
        return Home(root)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if _is_checkout(folder):
            return Home(folder)
    around_this = Path(__file__).resolve().parents[2]
    return Home(around_this if _is_checkout(around_this) else here)


def _is_checkout(folder: Path) -> bool:
    project = folder / "pyproject.toml"
    return project.is_file() and tomllib.loads(project.read_text()).get("project", {}).get("name") == "rappen"


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that only its owner may read, in one step: a reader sees the old or the new one, whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None when there is no such file."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StackError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise StackError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise StackError(f"{path} is damaged: it holds no object")
    return content
