"""Each service describes its operations by itself: without settings, and as it is committed beside its code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.chassis import documents
from services.chassis.documents import document_command, document_file
from services.chassis.operations import EXTENSION, Rules
from services.payments.app import application
from tests.support.stack import ROOT

SERVICES = ("billing", "payments", "subscriptions", "gateway")


@pytest.mark.parametrize("service", SERVICES)
def test_the_document_is_printed_without_settings_as_it_is_committed(service: str) -> None:
    command = [sys.executable, "-m", f"services.{service}", "openapi"]
    printed = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, check=False)
    assert (printed.returncode, printed.stderr) == (0, b"")
    assert printed.stdout == document_file(service).read_bytes()


def test_a_document_that_is_not_current_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    committed = document_file("payments").read_bytes()
    file = tmp_path / "openapi.json"
    monkeypatch.setattr(documents, "document_file", lambda service: file)
    assert document_command("payments", application, ["--check"]) == 1
    file.write_bytes(committed.replace(b"Redirect", b"Elsewhere"))
    assert document_command("payments", application, ["--check"]) == 1
    assert "make generate" in capsys.readouterr().err
    assert document_command("payments", application, ["--write"]) == 0
    assert file.read_bytes() == committed
    assert document_command("payments", application, ["--check"]) == 0


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_says_who_may_call_and_nothing_internal_is_one(service: str) -> None:
    document = json.loads(document_file(service).read_bytes())
    assert document["paths"]
    # Of the paths of billing, the gateway answers those that need the directory or the live feed.
    several = {"gateway": ("directory-", "usage-", "billing-"), "subscriptions": ("subscriptions-", "store-")}
    prefixes = several.get(service, (f"{service}-",))
    for path, methods in document["paths"].items():
        assert path.startswith("/api/")
        for method, described in methods.items():
            rules = Rules.model_validate(described[EXTENSION])
            assert described["operationId"].startswith(prefixes), (method, path)
            # The directory decides by what an entry belongs to; everywhere else the path says whose member is meant.
            by_path = rules.access.value in ("member", "mandate-admin") and service != "gateway"
            assert f"{{{rules.mandate_parameter}}}" in path or not by_path
