"""`make setup`: which Python it takes, and that what was only begun does not stand in its way."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.stack import ROOT

READ = ("Makefile", "requirements.lock", "pyproject.toml", "contracts/pyproject.toml")

# A Python of a given version that makes environments in which every command succeeds, and notes what it was asked.
STUB = """#!/bin/sh
if [ "$1" = -c ]; then
    as="sys.version_info = ({number}, 12); sys.version = '{text}.12 (main)'"
    exec python3 -c "import sys; $as; exec(sys.argv[1])" "$2"
fi
echo "$*" >> asked
mkdir -p .venv/bin
for name in python uv; do printf '#!/bin/sh\\n' > .venv/bin/$name; chmod +x .venv/bin/$name; done
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in READ:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for number, text in (("3, 10", "3.10"), ("3, 11", "3.11")):
        stub = tmp_path / f"python{text}"
        stub.write_text(STUB.format(number=number, text=text))
        stub.chmod(0o755)
    return tmp_path


def _setup(checkout: Path, python: str) -> tuple[int, str]:
    done = subprocess.run(
        ["make", "setup", f"PYTHON={checkout / python}"],
        cwd=checkout,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_python_that_is_too_old_is_named_and_makes_nothing(checkout: Path) -> None:
    code, told = _setup(checkout, "python3.10")
    assert code != 0
    assert f"Python 3.11 or newer is needed, {checkout}/python3.10 is 3.10.12; name another one: make setup" in told
    assert not (checkout / ".venv").exists()
    assert _setup(checkout, "python3.11") == (0, "")


def test_an_environment_that_was_only_begun_is_made_anew(checkout: Path) -> None:
    """Ctrl-C, or a Python without `ensurepip`, leaves a `.venv` with a Python and no pip."""
    begun = checkout / ".venv" / "bin" / "python"
    begun.parent.mkdir(parents=True)
    begun.write_text("#!/bin/sh\nexit 1\n")
    begun.chmod(0o755)
    assert _setup(checkout, "python3.11") == (0, "")
    assert (checkout / "asked").read_text() == "-m venv --clear .venv\n"


def test_a_whole_environment_is_kept_when_the_lock_changes(checkout: Path) -> None:
    assert _setup(checkout, "python3.11")[0] == 0
    os.utime(checkout / ".venv" / ".locked", (0, 0))
    # Whichever Python is the machine's own by then.
    assert _setup(checkout, "python3.10") == (0, "")
    assert (checkout / "asked").read_text() == "-m venv --clear .venv\n"
