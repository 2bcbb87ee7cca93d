"""A newcomer's first charge: what the README says, word for word, upon what is installed from the wheels.

The tests of this module are one story, in their order, upon one stack. Nothing in it comes from the checkout: what is
missing in the wheels is missing here.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deploy.local.ports import free_port
from tests.e2e.machine import Machine
from tests.support.events import RawRecord, publish
from tests.support.installed import EVERYTHING, install_wheels
from tests.support.stack import ROOT
from tests.support.waiting import wait_until

README = (ROOT / "README.md").read_text()
SECTION = README.partition("## Your first charge\n")[2].partition("\n## ")[0]
# To start, to ask, to send, to look at what became of it, to hold and capture, to pay in; and the event as a record.
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)
START, CHECK, SEND, LOOK, HOLD, TOP_UP = (text for language, text in BLOCKS if language == "sh")
(ON_KAFKA,) = (text for language, text in BLOCKS if not language)
WHERE = """
import importlib.metadata as installed
import deploy, rappen_contracts, services
print(deploy.__path__, rappen_contracts.__file__, services.__path__)
print(*(installed.distribution(name).locate_file("") for name in ("rappen", "rappen-contracts")))
"""
OPERATOR = ("status", "unpriced", "unknown", "dlq list")


class Newcomer:
    """Types the commands of the README in a folder with `.venv`, which is the environment of the wheels."""

    def __init__(self, folder: Path) -> None:
        (folder / ".venv").symlink_to(install_wheels(folder, EVERYTHING))
        self.folder = folder
        self.machine = Machine(folder, rappen=str(folder / ".venv" / "bin" / "rappen"))
        self.port = free_port()

    def types(self, *commands: str) -> str:
        """What a shell prints that is given the commands in which the port is a free one."""
        script = "\n".join(commands).replace("8080", str(self.port))
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=self.folder,
            env=self.machine.environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def looks(self) -> tuple[list[dict[str, Any]], Decimal]:
        """The charges of the list, and the balance."""
        said, decoder = self.types(LOOK), json.JSONDecoder(parse_float=Decimal)
        rows, end = decoder.raw_decode(said)
        balance, _ = decoder.raw_decode(said[end:].lstrip())
        return [row for row in rows["items"] if row["transactionType"] == "DEBIT"], Decimal(balance["balance"])


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    newcomer = Newcomer(tmp_path_factory.mktemp("newcomer"))
    yield newcomer
    newcomer.machine.close()


def _token_line() -> str:
    (line,) = [line for line in START.splitlines() if line.startswith("TOKEN=")]
    return line


def test_every_process_starts_from_the_wheels_alone(newcomer: Newcomer) -> None:
    newcomer.types(START)
    stack = newcomer.machine.stack
    assert stack["gateway"] == f"http://127.0.0.1:{newcomer.port}"
    assert [process["name"] for process in stack["processes"] if not newcomer.machine.ready(process["name"])] == []
    python = str(newcomer.folder / ".venv" / "bin" / "python")
    found = subprocess.run([python, "-c", WHERE], cwd=newcomer.folder, capture_output=True, text=True, check=True)
    assert str(ROOT) not in found.stdout
    assert found.stdout.count(f"{newcomer.folder}/.venv/lib/") == 5


def test_what_the_packages_carry_beside_code_is_in_the_wheels(newcomer: Newcomer) -> None:
    machine = newcomer.machine
    assert "Rappen" in machine.http("GET", f"{machine.stack['gateway']}/openapi.json").json()["info"]["title"]
    assert "<title>" in machine.http("GET", machine.stack["mail"]).text
    (session,) = machine.http("GET", f"{machine.stack['stripe']}/_control/checkout/sessions").json()
    assert "Test card" in machine.http("GET", session["url"]).text
    (packages,) = (newcomer.folder / "environment").glob("lib/python*/site-packages")
    for document in (ROOT / "contracts" / "generated").iterdir():
        assert (packages / "rappen_contracts" / "generated" / document.name).read_bytes() == document.read_bytes()


def test_what_is_installed_keeps_its_files_in_the_folder_it_is_called_in(newcomer: Newcomer, tmp_path: Path) -> None:
    environment = {name: text for name, text in newcomer.machine.environment.items() if name != "RAPPEN_HOME"}
    rappen = str(newcomer.folder / ".venv" / "bin" / "rappen")
    done = subprocess.run(
        [rappen, "status"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == f"rappen: the stack in {tmp_path} is not running; start it with: rappen up\n"


def test_the_check_of_the_readme_allows_the_call(newcomer: Newcomer) -> None:
    answer = json.loads(newcomer.types(_token_line(), CHECK))
    assert (answer["allowed"], answer["reason"]) == (True, None)
    assert answer["currentBalance"] == {"amount": "400.000000", "currency": "CHF"}
    assert 0 < Decimal(answer["requiredAmount"]["amount"]) < 1


async def test_the_event_of_the_readme_is_charged_once_over_http_and_once_on_kafka(newcomer: Newcomer) -> None:
    for _ in range(2):
        answer = json.loads(newcomer.types(_token_line(), SEND))
        assert (answer["accepted"], answer["results"][0]["status"]) == (1, "accepted")
    wait_until(lambda: len(newcomer.looks()[0]) > 0, timeout_s=60, what="the charge")
    key, headers, value = re.fullmatch(r"key: (.*)\nheaders: (.*)\nvalue: (.*)\n", ON_KAFKA, re.DOTALL).groups()  # type: ignore[union-attr]
    pairs = [pair.strip().split(" ", 1) for pair in headers.replace("<UUID>", str(uuid4())).split(",")]
    sent = RawRecord(value.strip().encode(), [(name, text.encode()) for name, text in pairs], key.strip().encode())
    await publish(newcomer.machine.stack["kafka"], [sent])
    wait_until(lambda: len(newcomer.looks()[0]) > 1, timeout_s=60, what="the charge of the record")
    charges, balance = newcomer.looks()
    assert len(charges) == 2
    assert charges[0]["amount"] == charges[1]["amount"] > 0
    assert {row["createdAt"] for row in charges} == {"2026-05-01T12:00:00Z"}
    assert balance == 400 - charges[0]["amount"] - charges[1]["amount"]


async def test_what_is_not_charged_is_where_the_readme_says(newcomer: Newcomer) -> None:
    event = json.loads(SEND.partition("-d '")[2].partition("'")[0])
    strange = {
        "no price": {"model": "no-such-model"},
        "no member": {"user_id": "nobody"},
        "no sum": {"tokens": {"input": 1, "total": 2}},
    }
    for changes in strange.values():
        data = json.dumps({**event["data"], **changes}).encode()
        headers = [
            *((f"ce_{name}", event[name].encode()) for name in ("specversion", "source", "type", "time")),
            ("ce_id", str(uuid4()).encode()),
        ]
        await publish(newcomer.machine.stack["kafka"], [RawRecord(data, headers, b"acme-ag")])
    counts = "dead letters: 1 (rappen dlq list), unpriced: 1 (rappen unpriced), unknown: 1 (rappen unknown)"
    wait_until(
        lambda: newcomer.machine.succeed("status").splitlines()[-1] == counts, timeout_s=60, what="the three counts"
    )
    for command in OPERATOR:
        assert f"| `.venv/bin/rappen {command}` |" in SECTION
    shown = {command: newcomer.types(f".venv/bin/rappen {command}") for command in OPERATOR}
    assert "no-such-model" in shown["unpriced"]
    assert "nobody" in shown["unknown"]
    assert re.search(r"TOTAL_MISMATCH +waiting +acme-ag ", shown["dlq list"])
    # A reader that stops after a line hears no complaint.
    told = newcomer.types(r'{ .venv/bin/rappen dlq list | (read -r line; echo "$line"); } 2>&1')
    assert re.fullmatch(r"id .*\n", told)
    number = shown["dlq list"].splitlines()[1].split()[0]
    newcomer.types(f".venv/bin/rappen dlq close {number} --reason 'a wrong total'")
    assert "dead letters: 0 " in newcomer.machine.succeed("status").splitlines()[-1]


def test_the_hold_of_the_readme_is_captured_with_its_cost(newcomer: Newcomer) -> None:
    before = newcomer.looks()[1]
    reserve, capture = HOLD.split("\n# With the holdId of the answer in place of HOLD_ID:\n")
    hold = json.loads(newcomer.types(_token_line(), reserve))
    assert hold["amount"] == {"amount": "0.050000", "currency": "CHF"}
    captured = json.loads(newcomer.types(_token_line(), capture.replace("HOLD_ID", hold["holdId"])))
    assert captured["holdId"] == hold["holdId"]
    assert newcomer.looks()[1] == before - Decimal(captured["amount"]["amount"]) < before


def test_the_top_up_of_the_readme_leads_to_a_page_to_pay_on(newcomer: Newcomer) -> None:
    page = newcomer.machine.http("GET", json.loads(newcomer.types(TOP_UP))["redirectUrl"]).text
    assert "Test card" in page
    assert "CHF 50.00" in page


def test_the_books_add_up_and_everything_is_stopped(newcomer: Newcomer) -> None:
    assert "the books add up" in newcomer.types(".venv/bin/rappen audit")
    newcomer.types(".venv/bin/rappen down")
    assert newcomer.machine.running() == []
