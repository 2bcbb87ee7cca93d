"""The distributions as somebody else has them: wheels, installed into an environment of their own."""

import subprocess
import sys
from pathlib import Path

from uv import find_uv_bin

from tests.support.stack import ROOT

__all__ = ["EVERYTHING", "PRODUCTION", "install_wheels"]

PRODUCTION = ROOT / "requirements.production.lock"
EVERYTHING = ROOT / "requirements.lock"


def install_wheels(folder: Path, lock: Path) -> Path:
    """Builds the wheels of this checkout and installs them with a lock; gives the folder of the environment."""
    wheels, environment = folder / "wheels", folder / "environment"
    _uv("build", "--wheel", "--all-packages", "--out-dir", str(wheels), str(ROOT))
    _uv("venv", "--python", sys.executable, str(environment))
    python = environment / "bin" / "python"
    # Compiled once, and not by each of the many processes that start from it at the same moment.
    where = ("--compile-bytecode", "--python", str(python))
    _uv("pip", "sync", "--require-hashes", *where, str(lock))
    _uv("pip", "install", "--no-deps", *where, *map(str, sorted(wheels.glob("*.whl"))))
    return environment


def _uv(*words: str) -> None:
    done = subprocess.run([find_uv_bin(), *words], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
