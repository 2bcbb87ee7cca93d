"""What `lint-imports` cannot say of the subjects of the services: that none is left out, and that what is pure is
pure."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import ROOT

CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
# Ways in, of which the layers of the whole service say enough; and revisions of the schema, which import nothing of it.
NO_SUBJECTS = {"commands", "migrations"}


def subjects(service: str) -> set[str]:
    folders = (ROOT / "services" / service).iterdir()
    return {each.name for each in folders if any(each.glob("*.py")) and each.name not in NO_SUBJECTS}


SERVICES = ("billing", "gateway", "payments", "subscriptions")
# Whose pure modules need nothing but each other. Payments reads the bytes of a delivery by a library.
PURE_SERVICES = ("billing", "subscriptions")
SUBJECTS = [(service, subject) for service in SERVICES for subject in sorted(subjects(service))]


def layers_of(package: str) -> dict[str, Any]:
    (contract,) = [each for each in CONTRACTS if each["type"] == "layers" and package in each["containers"]]
    return contract


def names(contract: dict[str, Any]) -> set[str]:
    return {name for layer in contract["layers"] for name in re.split(r"\s*[|:]\s*", layer)}


def test_there_are_subjects_at_all() -> None:
    assert {("billing", "charging"), ("gateway", "directory"), ("payments", "inbox")} <= set(SUBJECTS)
    assert subjects("subscriptions") == {"directory", "lifecycle", "plans", "quantities", "store", "stripe"}


@pytest.mark.parametrize("service", SERVICES)
def test_the_order_between_subjects_names_every_one(service: str) -> None:
    contract = layers_of(f"services.{service}")
    assert contract["exhaustive"]
    assert contract["exhaustive_ignores"] == ["migrations"]
    assert subjects(service) <= names(contract)


@pytest.mark.parametrize(("service", "subject"), SUBJECTS)
def test_a_subject_has_layers_of_its_own_that_name_every_file(service: str, subject: str) -> None:
    contract, folder = layers_of(f"services.{service}.{subject}"), ROOT / "services" / service / subject
    assert contract["exhaustive"]
    assert "exhaustive_ignores" not in contract
    files = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    folders = {each.name for each in folder.iterdir() if any(each.glob("*.py"))}
    assert names(contract) == files | folders


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def pure() -> dict[str, Path]:
    (contract,) = [each for each in CONTRACTS if each["name"] == "Domain is pure"]
    found = {}
    for service in PURE_SERVICES:
        for file in (ROOT / "services" / service).rglob("*.py"):
            if any(fnmatchcase(module_of(file), pattern) for pattern in contract["source_modules"]):
                found[module_of(file)] = file
    return found


PURE = pure()
# Its `__init__` gives out what its pure modules have, and nothing else.
PURE["services.billing.pricing"] = ROOT / "services" / "billing" / "pricing" / "__init__.py"


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} imports relatively"
            yield node.module or ""


# Its structs are data classes that take less time to make.
DATA_CLASSES = "msgspec"


@pytest.mark.parametrize("module", sorted(PURE))
def test_what_is_pure_imports_the_standard_library_contracts_and_what_is_pure(module: str) -> None:
    foreign = {
        name
        for name in imported(PURE[module])
        if name.split(".")[0] not in sys.stdlib_module_names
        and name.split(".")[0] not in ("rappen_contracts", DATA_CLASSES)
        and name not in PURE
    }
    assert foreign == set()
