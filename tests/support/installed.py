"""The distributions as somebody else has them: wheels, installed into an environment of their own."""

import site
import subprocess
import sys
from pathlib import Path

from uv import find_uv_bin

from tests.support.stack import ROOT

__all__ = ["install_wheels"]


def install_wheels(folder: Path) -> Path:
    """Builds the wheels of this checkout and installs them; gives the folder of the environment.

    What they depend on is that of this environment; what leads from it to the sources is in files that are read where
    an environment begins, and not in a folder that is only added to a path.
    """
    wheels, environment = folder / "wheels", folder / "environment"
    _uv("build", "--wheel", "--all-packages", "--out-dir", str(wheels), str(ROOT))
    _uv("venv", "--python", sys.executable, str(environment))
    python = environment / "bin" / "python"
    _uv("pip", "install", "--no-deps", "--python", str(python), *map(str, sorted(wheels.glob("*.whl"))))
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{site.getsitepackages()[0]}\n")
    return environment


def _uv(*words: str) -> None:
    done = subprocess.run([find_uv_bin(), *words], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
