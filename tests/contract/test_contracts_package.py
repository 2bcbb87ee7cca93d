"""The contracts can be installed alone: pydantic is all they import, but for what an extra is for."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2] / "contracts"

OF_EXTRAS = {"rappen_contracts.usage.fast": "msgspec"}
# Imports every module in a fresh interpreter and tells what came with it.
PROGRAM = f"""
import importlib, json, pkgutil, sys
before = set(sys.modules)
import rappen_contracts
for module in pkgutil.walk_packages(rappen_contracts.__path__, "rappen_contracts."):
    if module.name not in {sorted(OF_EXTRAS)}:
        importlib.import_module(module.name)
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""
OF_PYDANTIC = {"annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"}


def test_no_module_imports_anything_but_pydantic_and_the_standard_library() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(json.loads(found.stdout))
    foreign = {
        name for name in loaded - set(sys.stdlib_module_names) - OF_PYDANTIC if not name.startswith("_sysconfig")
    }
    assert foreign == {"rappen_contracts"}
    assert "pydantic" in loaded


def test_pydantic_is_the_only_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [requirement.partition(">")[0] for requirement in project["dependencies"]] == ["pydantic"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    assert [requirement.partition(">")[0] for requirement in extras] == list(OF_EXTRAS.values())
