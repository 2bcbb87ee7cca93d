"""The lock files are what `pyproject.toml` asks for, no more and no less; `make lock` writes them anew."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import requires
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.stack import ROOT

OURS = {"rappen", "rappen-contracts"}


def _project(folder: str = ".") -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


def _pinned(name: str) -> dict[str, str]:
    """The versions of a lock file on this machine; it is written for all that the project runs on."""
    text = (ROOT / name).read_text()
    lines = [Requirement(line) for line in re.findall(r"^(\S+==.*?) \\$", text, re.MULTILINE)]
    return {
        canonicalize_name(line.name): str(line.specifier).removeprefix("==")
        for line in lines
        if line.marker is None or line.marker.evaluate()
    }


def _asked_for(*, everything: bool) -> list[str]:
    rappen = _project()
    contracts = _project("contracts")["project"]
    # The services take the contracts with what reads usage fast.
    asked = [
        *rappen["project"]["dependencies"],
        *contracts["dependencies"],
        *contracts["optional-dependencies"]["fast"],
    ]
    if everything:
        parts = (rappen["project"]["optional-dependencies"], rappen["dependency-groups"])
        asked += [text for part in parts for texts in part.values() for text in texts]
    return asked


def _reached(texts: Iterable[str], pinned: Mapping[str, str]) -> dict[str, list[Requirement]]:
    """What is asked for of each package, by us and by those that are pinned, on this machine."""
    # Packages that are installed without what they ask for.
    alone = {each["name"] for each in _project()["tool"]["uv"]["dependency-metadata"] if not each["requires-dist"]}
    reached: dict[str, list[Requirement]] = {}
    waiting, seen = [(Requirement(text), "") for text in texts], set()
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in OURS or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        reached.setdefault(name, []).append(requirement)
        for further in {"", *requirement.extras}:
            if (name, further) not in seen:
                seen.add((name, further))
                asked = requires(name) if name in pinned.keys() - alone else None
                waiting += [(Requirement(text), further) for text in asked or ()]
    return reached


@pytest.mark.parametrize(("lock", "everything"), [("requirements.lock", True), ("requirements.production.lock", False)])
def test_a_lock_is_what_is_asked_for(lock: str, everything: bool) -> None:
    pinned = _pinned(lock)
    reached = _reached(_asked_for(everything=everything), pinned)
    assert pinned.keys() == reached.keys(), f"{lock} is not current: make lock"
    refused = [
        f"{name} {pinned[name]}: {requirement}"
        for name, requirements in reached.items()
        for requirement in requirements
        if not requirement.specifier.contains(pinned[name], prereleases=True)
    ]
    assert refused == [], f"{lock} is not current: make lock"


def test_what_runs_in_production_is_what_was_tested() -> None:
    tested = _pinned("requirements.lock")
    assert _pinned("requirements.production.lock").items() <= tested.items()
