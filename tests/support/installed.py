"""The distributions as somebody else has them: wheels, installed into an environment of their own."""

import shutil
import subprocess
import sys
import sysconfig
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
    python = str(environment / "bin" / "python")
    _uv("pip", "sync", "--require-hashes", "--python", python, str(lock))
    _take_over_bytecode(environment)
    # Compiled once, and not by each of the many processes that start from it at the same moment.
    _uv(
        "pip", "install", "--no-deps", "--compile-bytecode", "--python", python, *map(str, sorted(wheels.glob("*.whl")))
    )
    return environment


def _take_over_bytecode(environment: Path) -> None:
    """Copies what was compiled of the same packages here: to compile them again takes 15 s of CPU. What was compiled of
    another file Python passes over by itself."""
    here = Path(sysconfig.get_path("purelib"))
    (there,) = environment.glob("lib/python*/site-packages")
    for compiled in here.rglob("__pycache__/*.pyc"):
        package = there / compiled.parent.parent.relative_to(here)
        if package.is_dir():
            cache = package / "__pycache__"
            cache.mkdir(exist_ok=True)
            shutil.copyfile(compiled, cache / compiled.name)


def _uv(*words: str) -> None:
    done = subprocess.run([find_uv_bin(), *words], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
