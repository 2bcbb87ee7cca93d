"""`rappen rerate`: shows what charges would cost now, and with --apply corrects them, also where no worker runs."""

import json
import pty
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.billing.commands.rerate import run
from services.billing.settings import BillingSettings
from tests.integration.billing.conftest import BillingApi
from tests.support.charging import charge
from tests.support.events import usage_record
from tests.support.ledger import Books
from tests.support.processes import FaultFolder, run_command
from tests.support.rerating import carry_out
from tests.support.stack import ROOT, ServerPair

AT = datetime(2026, 5, 4, 10, tzinfo=UTC)
MAY = ("--from", "2026-05-01T00:00:00Z", "--to", "2026-06-01T00:00:00+00:00")


@pytest.fixture
async def model(api: BillingApi, mandate: str) -> str:
    """A model whose price was halved after three charges of 1,000 tokens."""
    made = f"model-{uuid4()}"
    await api.price(made, "0.002")
    usage: dict[str, Any] = {"cost": None, "model": made, "tokens": {"input": 1000}, "at": AT}
    await charge(api.database, *(usage_record(mandate, **usage) for _ in range(3)))
    await api.price(made, "0.001")
    return made


async def test_it_shows_what_it_then_posts(servers: ServerPair, books: Books, mandate: str, model: str) -> None:
    command = ("rerate", *MAY, "--model", model)
    shown = run_command(servers, "billing", *command)
    assert shown.returncode == 0, shown.stderr
    figures = "CHF 9.000000 -> 4.500000, difference -4.500000"
    assert shown.stdout.splitlines() == [
        f"{mandate}: 3 charges, 3 differ, {figures}",
        f"all: 3 charges, 3 differ, {figures} (nothing applied)",
    ]
    assert await books.pool(mandate) == -9_000_000
    done = run_command(servers, "billing", *command, "--provider", "anthropic", "--apply")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"all: 3 charges, 3 corrected, {figures}"
    assert await books.pool(mandate) == -4_500_000
    again = run_command(servers, "billing", *command, "--apply", "--json")
    answer = json.loads(again.stdout)
    assert (answer["state"], answer["charges"], answer["differing"]) == ("DONE", 3, 0)
    assert await books.failing() == {}


async def test_what_it_left_when_it_died_is_done_by_whoever_comes_next(
    servers: ServerPair, api: BillingApi, books: Books, *, mandate: str, model: str, tmp_path: Path
) -> None:
    faults = FaultFolder(tmp_path / "faults")
    faults.arm("before_rerating_commit")
    killed = run_command(servers, "billing", "rerate", *MAY, "--model", model, "--apply", more=faults.settings)
    assert (killed.returncode, faults.hits("before_rerating_commit")) == (-9, 1)
    assert await books.pool(mandate) == -9_000_000
    word, rerating_id = killed.stderr.split()
    assert word == "re-rating"
    assert (await carry_out(api.database, rerating_id))["differing"] == 3
    assert await books.pool(mandate) == -4_500_000
    assert await books.failing() == {}


def test_a_terminal_sees_how_far_it_is(servers: ServerPair, model: str) -> None:
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "services.billing", "rerate", *MAY, "--model", model, "--apply"]
    environment = servers.environment("billing", port=1)
    done = subprocess.run(command, env=environment, cwd=ROOT, stderr=terminal, capture_output=False, check=False)
    assert done.returncode == 0
    with open(screen, "rb", buffering=0) as seen:
        told = seen.read(4096).decode()
    assert "\r3 charges priced again" in told
    assert f"[{'#' * 30}] 3 of 3 charges" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from", "2026-05-01T00:00:00Z"], "the following arguments are required: --to"),
        (["--from", "yesterday", "--to", MAY[3]], "argument --from: a time is RFC 3339 with an offset"),
        (["--from", "1999-01-01T00:00:00Z", "--to", MAY[3]], "argument --from: a time is in the years 2000 to 2199"),
        (["--from", MAY[3], "--to", MAY[1]], "argument --to: a time after --from is needed"),
        ([*MAY, "--model", ""], "argument --model: a name of 1 to 120 characters is needed"),
        ([*MAY, "--provider", "x" * 121], "argument --provider: a name of 1 to 120 characters is needed"),
        ([*MAY, "--limit", "0"], "argument --limit: a number from 1 to 10000 is needed"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(BillingSettings.model_construct(), words)
    assert f"rappen rerate: error: {told}" in capsys.readouterr().err
