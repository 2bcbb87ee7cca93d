"""Keeps released versions compatible: `python -m rappen_contracts.compatibility [--check]`.

`released.toml` lists every released version with the digest of its schema, which is kept below `released/`. What a
released version may still do: gain optional fields, wider limits, more values of an enumeration, more kinds of a tagged
union. All else needs a new major version.

The one exception is a tightening: from now on something is refused that no right publisher sends and that did harm
where it was accepted. `--tighten REASON` records it, with the reason, for good.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from rappen_contracts.generate import schema_text
from rappen_contracts.registry import EVENTS, EventVersion
from rappen_contracts.schemas import Schema, event_schema

__all__ = [
    "Released",
    "Tightened",
    "check",
    "incompatibilities",
    "main",
    "read_released",
    "read_tightened",
    "record",
]

_DOCUMENTATION = frozenset(["$id", "$schema", "description", "examples", "title"])
_LOWER_LIMITS = ("minimum", "minLength", "minItems", "minProperties")
_UPPER_LIMITS = ("maximum", "maxLength", "maxItems", "maxProperties")
_SCHEMAS = ("items", "additionalProperties", "propertyNames")
_COMPARED = frozenset(
    ["properties", "required", "enum", "const", "anyOf", "oneOf", *_LOWER_LIMITS, *_UPPER_LIMITS, *_SCHEMAS]
)
# Faults that only refuse more than before; what publishers send rightly and what readers rely on stays.
_TIGHTENINGS = ("additionalProperties changed", "then changed", "else changed", "pattern changed", "is narrower")
_HEAD = """\
# Every released version of every event, with the digest of its schema. Written by
# `python -m rappen_contracts.compatibility`, which refuses what would break a publisher or a reader.
"""


@dataclass(frozen=True, slots=True)
class Released:
    """One entry of released.toml: the event type, and where its schema stands with which SHA-256."""

    type: str
    schema: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Tightened:
    """One entry of released.toml: what a released version refuses since, and why it was taken into account."""

    type: str
    change: str
    reason: str


def incompatibilities(released: Schema, current: Schema) -> list[str]:
    """What of `current` breaks those who rely on `released`, as a list of field and reason."""
    return list(_compare(_inlined(released, released), _inlined(current, current), "data"))


def read_released(root: Path) -> list[Released]:
    """The entries of released.toml; none when there is no such file yet."""
    return [Released(**entry) for entry in _recorded(root).get("released", [])]


def read_tightened(root: Path) -> list[Tightened]:
    """Every tightening so far."""
    return [Tightened(**entry) for entry in _recorded(root).get("tightened", [])]


def _recorded(root: Path) -> dict[str, Any]:
    path = root / "released.toml"
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        return tomllib.load(file)


def check(root: Path, events: Mapping[str, EventVersion] = EVENTS) -> list[str]:
    """Every fault: changed snapshots, removed versions, incompatible changes, versions without their upcast."""
    faults = list(_upcast_faults(events))
    for entry in read_released(root):
        path = root / entry.schema
        text = path.read_bytes() if path.is_file() else b""
        event = events.get(entry.type)
        if sha256(text).hexdigest() != entry.sha256:
            faults.append(f"{entry.type}: {entry.schema} is not what was released")
        elif event is None:
            faults.append(f"{entry.type}: a released version is gone")
        else:
            found = incompatibilities(json.loads(text), event_schema(event))
            faults += [f"{entry.type}: {fault}" for fault in found]
    return faults


def record(root: Path, events: Mapping[str, EventVersion] = EVENTS, *, tightened: Sequence[Tightened] = ()) -> None:
    """Writes the schemas of all versions of the registry as released; only after `check` found nothing but the new
    tightenings."""
    known = [*read_tightened(root), *tightened]
    (root / "released").mkdir(exist_ok=True)
    text = _HEAD
    for type_, event in events.items():
        schema = schema_text(event)
        name = f"released/{event.name}.v{event.major}.json"
        (root / name).write_text(schema, encoding="utf-8")
        digest = sha256(schema.encode()).hexdigest()
        text += f'\n[[released]]\ntype = "{type_}"\nschema = "{name}"\nsha256 = "{digest}"\n'
    for entry in known:
        fields = "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in asdict(entry).items())
        text += f"\n[[tightened]]\n{fields}"
    (root / "released.toml").write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks; without `--check` also records new versions and fields as released. 1 when anything is incompatible."""
    parser = argparse.ArgumentParser(prog="python -m rappen_contracts.compatibility", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="record nothing")
    mode.add_argument("--tighten", metavar="REASON", help="record that a released version refuses more, and why")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the checkout's contracts folder")
    options = parser.parse_args(arguments)
    if not (options.root / "pyproject.toml").is_file():
        parser.error(f"{options.root} is not the contracts folder of a checkout; say --root")
    faults = check(options.root)
    tightened: list[Tightened] = []
    if options.tighten:
        new = [fault for fault in faults if fault.endswith(_TIGHTENINGS)]
        for type_, _, change in (fault.partition(": ") for fault in new):
            tightened.append(Tightened(type_, change, options.tighten))
        faults = [fault for fault in faults if fault not in new]
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    if faults:
        return 1
    if not options.check:
        record(options.root, tightened=tightened)
    return 0


def _upcast_faults(events: Mapping[str, EventVersion]) -> Iterator[str]:
    for type_, event in events.items():
        newest = max(other.major for other in events.values() if other.name == event.name)
        if event.major == newest and event.upcast is not None:
            yield f"{type_}: the newest version has an upcast"
        if event.major < newest and (event.upcast is None or event.next_type not in events):
            yield f"{type_}: no upcast to the next version"


def _inlined(node: Any, root: Schema) -> Any:
    """The schema without references and documentation; contracts have no recursive models."""
    if isinstance(node, list):
        return [_inlined(entry, root) for entry in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = root["$defs"][node["$ref"].removeprefix("#/$defs/")]
        node = target | {keyword: value for keyword, value in node.items() if keyword != "$ref"}
    inlined: Schema = {}
    for keyword, value in node.items():
        if keyword == "properties":
            inlined[keyword] = {name: _inlined(entry, root) for name, entry in value.items()}
        elif keyword != "$defs" and keyword not in _DOCUMENTATION:
            inlined[keyword] = _inlined(value, root)
    return inlined


def _compare(old: Schema, new: Schema, path: str) -> Iterator[str]:
    """Yields each fault once; a keyword without a rule of its own may not change at all."""
    yield from _compare_fields(old, new, path)
    yield from _compare_values(old, new, path)
    yield from _compare_limits(old, new, path)
    for keyword in ("anyOf", "oneOf"):
        yield from _compare_alternatives(old, new, keyword, path)
    for keyword in _SCHEMAS:
        before, after = old.get(keyword, True), new.get(keyword, True)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _compare(before, after, f"{path}.*")
        elif before != after:
            yield f"{path}: {keyword} changed"
    for keyword in sorted((old.keys() | new.keys()) - _COMPARED):
        if old.get(keyword) != new.get(keyword):
            yield f"{path}: {keyword} changed"


def _compare_fields(old: Schema, new: Schema, path: str) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name, field in before.items():
        if name in after:
            yield from _compare(field, after[name], f"{path}.{name}")
        else:
            yield f"{path}.{name}: field removed"
    required, requires = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(requires - required):
        yield f"{path}.{name}: field is newly required"
    # Readers of the released version rely on it being there.
    for name in sorted((required - requires) & after.keys()):
        yield f"{path}.{name}: field is no longer required"


def _compare_values(old: Schema, new: Schema, path: str) -> Iterator[str]:
    after = _values(new)
    if after is None:
        return
    before = _values(old)
    if before is None or any(value not in after for value in before):
        yield f"{path}: fewer values allowed"


def _values(schema: Schema) -> list[object] | None:
    """The values of an enumeration, of which a constant is the smallest."""
    values: list[object] | None = schema.get("enum")
    return [schema["const"]] if values is None and "const" in schema else values


def _compare_limits(old: Schema, new: Schema, path: str) -> Iterator[str]:
    for keyword in _LOWER_LIMITS:
        if keyword in new and (keyword not in old or new[keyword] > old[keyword]):
            yield f"{path}: {keyword} is narrower"
    for keyword in _UPPER_LIMITS:
        if keyword in new and (keyword not in old or new[keyword] < old[keyword]):
            yield f"{path}: {keyword} is narrower"


def _compare_alternatives(old: Schema, new: Schema, keyword: str, path: str) -> Iterator[str]:
    before, after = old.get(keyword, []), new.get(keyword, [])
    if bool(before) != bool(after) or (keyword == "anyOf" and len(after) > len(before)):
        yield f"{path}: type changed"
        return
    for alternative in before:
        # The faults against the closest alternative say best what happened to it.
        yield from min((list(_compare(alternative, other, path)) for other in after), key=len)


if __name__ == "__main__":
    sys.exit(main())
