"""What is forked for the tests is as Python would have started it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fork_server import can_be_forked, fork
from tests.support.stack import ROOT

COMMAND = [sys.executable, "-m", "services.billing"]


@pytest.mark.parametrize(
    ("words", "more"),
    [(["nonsense"], {}), (["dlq", "--help"], {}), (["api"], {"BILLING_HTTP__PORT": "no port"})],
)
def test_exit_code_output_and_settings_are_those_of_the_command(
    tmp_path: Path, words: list[str], more: dict[str, str]
) -> None:
    environment = {**os.environ, **more}
    stdout, stderr = tmp_path / "stdout", tmp_path / "stderr"
    forked = fork([*COMMAND, *words], environment, stdout=stdout, stderr=stderr)
    told = (forked.wait(60), stdout.read_text(), stderr.read_text())
    started = subprocess.run(
        [*COMMAND, *words], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert told == (started.returncode, started.stdout, started.stderr)
    assert started.stdout + started.stderr


def test_a_killed_process_ends_by_the_signal(tmp_path: Path) -> None:
    # It waits for somebody who reads what it says.
    unread = tmp_path / "unread"
    os.mkfifo(unread)
    forked = fork([*COMMAND, "prices"], os.environ, stdout=unread)
    assert forked.poll() is None
    forked.kill()
    assert forked.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("words", "more", "folder"),
    [
        ([sys.executable, "-m", "services.unknown"], {}, ROOT),
        (["/elsewhere/python", "-m", "services.billing"], {}, ROOT),
        (COMMAND, {"PYTHONPATH": "/elsewhere"}, ROOT),
        (COMMAND, {}, ROOT / "tests"),
    ],
)
def test_what_would_differ_is_not_forked(words: list[str], more: dict[str, str], folder: Path) -> None:
    assert can_be_forked(COMMAND, os.environ, ROOT)
    assert not can_be_forked(words, {**os.environ, **more}, folder)
