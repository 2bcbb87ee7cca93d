"""Writes the JSON Schemas and the AsyncAPI document: `python -m rappen_contracts.generate [--check]`."""

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rappen_contracts.asyncapi import asyncapi_document
from rappen_contracts.registry import EVENTS, SOURCES, EventVersion
from rappen_contracts.schemas import event_schema

__all__ = ["artefacts", "main", "schema_text", "stale"]


def artefacts(root: Path) -> dict[str, str]:
    """Every generated file by name, from the registry and the samples below `root`."""
    files = {f"{event.name}.v{event.major}.json": schema_text(event) for event in EVENTS.values()}
    with (root / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    examples = {type_: _examples(root, event) for type_, event in EVENTS.items()}
    files["asyncapi.json"] = _text(asyncapi_document(SOURCES, version=version, examples=examples))
    return files


def schema_text(event: EventVersion) -> str:
    """The schema of one version as its file holds it."""
    return _text(event_schema(event))


def stale(root: Path) -> list[str]:
    """The names of generated files that are missing, changed or left over."""
    expected = artefacts(root)
    folder = root / "generated"
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*")} if folder.is_dir() else {}
    return sorted(name for name in expected.keys() | present.keys() if expected.get(name) != present.get(name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the files, or with `--check` only looks whether they are what would be written; 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m rappen_contracts.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the checkout's contracts folder")
    options = parser.parse_args(arguments)
    if not (options.root / "pyproject.toml").is_file():
        parser.error(f"{options.root} is not the contracts folder of a checkout; say --root")
    names = stale(options.root)
    if options.check:
        sys.stdout.writelines(f"stale: generated/{name}\n" for name in names)
        return 1 if names else 0
    folder = options.root / "generated"
    folder.mkdir(exist_ok=True)
    expected = artefacts(options.root)
    for name in names:
        path = folder / name
        if name in expected:
            path.write_text(expected[name], encoding="utf-8")
        else:
            path.unlink()
        sys.stdout.write(f"{'written' if name in expected else 'removed'}: generated/{name}\n")
    return 0


def _examples(root: Path, event: EventVersion) -> list[dict[str, Any]]:
    path = root / "samples" / event.name / f"v{event.major}" / "minimal.json"
    return [json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
