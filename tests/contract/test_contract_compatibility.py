"""A released version never changes in a way that breaks those who publish or read it."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pytest

from rappen_contracts import EVENTS
from rappen_contracts.compatibility import Tightened, check, incompatibilities, main, read_released, read_tightened
from rappen_contracts.generate import main as generate
from rappen_contracts.registry import EventVersion
from rappen_contracts.schemas import Schema, event_schema
from rappen_contracts.types import Contract, Name
from rappen_contracts.usage.v1 import UsageRecorded

ROOT = Path(__file__).parents[2] / "contracts"
USAGE = "ch.rappen.usage.recorded.v1"


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A copy of the contracts folder, without the package, to damage."""
    return Path(shutil.copytree(ROOT, tmp_path / "contracts", ignore=shutil.ignore_patterns("rappen_contracts")))


def _usage() -> Schema:
    schema: Schema = json.loads((ROOT / "released" / "usage.recorded.v1.json").read_text())
    return schema


def _fields(schema: Schema) -> dict[str, Any]:
    fields: dict[str, Any] = schema["properties"]
    return fields


def _remove(schema: Schema) -> None:
    del _fields(schema)["response_id"]


def _rename(schema: Schema) -> None:
    _fields(schema)["answer_id"] = _fields(schema).pop("response_id")


def _add_required(schema: Schema) -> None:
    _fields(schema)["region"] = {"type": "string"}
    schema["required"].append("region")


def _require(schema: Schema) -> None:
    schema["required"].append("provider")


def _no_longer_require(schema: Schema) -> None:
    schema["required"].remove("user_id")


def _other_type(schema: Schema) -> None:
    _fields(schema)["bytes_sent"]["anyOf"][0]["type"] = "string"


def _not_null(schema: Schema) -> None:
    _fields(schema)["description"] = {"type": "string", "maxLength": 500, "default": None}


def _null_too(schema: Schema) -> None:
    _fields(schema)["mandate_id"] = {"anyOf": [_fields(schema)["mandate_id"], {"type": "null"}]}


def _fewer_values(schema: Schema) -> None:
    _fields(schema)["kind"]["enum"].remove("storage")


def _enumerate(schema: Schema) -> None:
    _fields(schema)["provider"]["anyOf"][0]["enum"] = ["openai", "anthropic"]


def _fewer_currencies(schema: Schema) -> None:
    schema["$defs"]["NonNegativeMoney"]["properties"]["currency"]["enum"].remove("ZAR")


def _shorter(schema: Schema) -> None:
    _fields(schema)["mandate_id"]["maxLength"] = 63


def _longer_at_least(schema: Schema) -> None:
    _fields(schema)["model"]["anyOf"][0]["minLength"] = 2


def _new_limit(schema: Schema) -> None:
    _fields(schema)["response_id"]["anyOf"][0]["maxLength"] = 200


def _smaller(schema: Schema) -> None:
    schema["$defs"]["Tokens"]["properties"]["input"]["maximum"] = 2**31 - 1


def _larger_at_least(schema: Schema) -> None:
    schema["$defs"]["Tokens"]["properties"]["output"]["minimum"] = 1


def _other_pattern(schema: Schema) -> None:
    _fields(schema)["user_id"]["pattern"] = "^[a-z]+$"


def _fewer_entries(schema: Schema) -> None:
    _fields(schema)["metadata"]["anyOf"][0]["maxProperties"] = 10


def _other_entries(schema: Schema) -> None:
    _fields(schema)["metadata"]["anyOf"][0]["additionalProperties"] = {"type": "integer"}


def _shorter_keys(schema: Schema) -> None:
    _fields(schema)["quantities"]["anyOf"][0]["propertyNames"]["maxLength"] = 60


def _closed(schema: Schema) -> None:
    schema["additionalProperties"] = False


def _other_default(schema: Schema) -> None:
    _fields(schema)["kind"]["default"] = "storage"


def _other_rule(schema: Schema) -> None:
    schema["then"]["required"].append("feature_code")


def _other_format(schema: Schema) -> None:
    _fields(schema)["hold_id"]["anyOf"][0]["format"] = "uri"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_remove, "data.response_id: field removed"),
        (_rename, "data.response_id: field removed"),
        (_add_required, "data.region: field is newly required"),
        (_require, "data.provider: field is newly required"),
        (_no_longer_require, "data.user_id: field is no longer required"),
        (_other_type, "data.bytes_sent: type changed"),
        (_not_null, "data.description: type changed"),
        (_null_too, "data.mandate_id: type changed"),
        (_fewer_values, "data.kind: fewer values allowed"),
        (_enumerate, "data.provider: fewer values allowed"),
        (_fewer_currencies, "data.cost.currency: fewer values allowed"),
        (_shorter, "data.mandate_id: maxLength is narrower"),
        (_longer_at_least, "data.model: minLength is narrower"),
        (_new_limit, "data.response_id: maxLength is narrower"),
        (_smaller, "data.tokens.input: maximum is narrower"),
        (_larger_at_least, "data.tokens.output: minimum is narrower"),
        (_other_pattern, "data.user_id: pattern changed"),
        (_fewer_entries, "data.metadata: maxProperties is narrower"),
        (_other_entries, "data.metadata.*: type changed"),
        (_shorter_keys, "data.quantities.*: maxLength is narrower"),
        (_closed, "data: additionalProperties changed"),
        (_other_default, "data.kind: default changed"),
        (_other_rule, "data: then changed"),
        (_other_format, "data.hold_id: format changed"),
    ],
)
def test_an_incompatible_change_is_found(change: Callable[[Schema], None], fault: str) -> None:
    current = _usage()
    change(current)
    assert fault in incompatibilities(_usage(), current)


def _add_optional(schema: Schema) -> None:
    _fields(schema)["region"] = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}


def _add_nested(schema: Schema) -> None:
    schema["$defs"]["Tokens"]["properties"]["video_input"] = {"type": "integer", "minimum": 0, "default": 0}


def _wider(schema: Schema) -> None:
    _fields(schema)["mandate_id"]["maxLength"] = 128
    del _fields(schema)["description"]["anyOf"][0]["maxLength"]


def _more_values(schema: Schema) -> None:
    _fields(schema)["kind"]["enum"].append("training")


def _other_words(schema: Schema) -> None:
    schema["description"] = "Usage."
    schema["$defs"]["Tokens"]["description"] = "Counts."


@pytest.mark.parametrize("change", [_add_optional, _add_nested, _wider, _more_values, _other_words])
def test_a_compatible_change_is_fine(change: Callable[[Schema], None]) -> None:
    current = _usage()
    change(current)
    assert current != _usage()
    assert incompatibilities(_usage(), current) == []


def test_a_tagged_union_may_gain_a_kind_and_must_not_lose_one() -> None:
    before = event_schema(EVENTS["ch.rappen.directory.changed.v1"])
    after = copy.deepcopy(before)
    after["$defs"]["Planet"] = {"type": "object", "properties": {"kind": {"const": "planet"}}, "required": ["kind"]}
    after["properties"]["entry"]["oneOf"].append({"$ref": "#/$defs/Planet"})
    assert incompatibilities(before, after) == []
    assert incompatibilities(after, before)


def test_the_released_versions_are_compatible_and_all_recorded() -> None:
    assert check(ROOT) == []
    assert {entry.type for entry in read_released(ROOT)} == set(EVENTS)


def test_models_are_checked_as_schemas_are(released: Path) -> None:
    class Narrowed(UsageRecorded):
        kind: Literal["ai"] = "ai"

    class Widened(UsageRecorded):
        region: Name | None = None

    class Needing(UsageRecorded):
        region: Name

    def faults(model: type[Contract]) -> list[str]:
        return check(released, {**EVENTS, USAGE: replace(EVENTS[USAGE], model=model)})

    assert f"{USAGE}: data.kind: fewer values allowed" in faults(Narrowed)
    assert faults(Widened) == []
    assert faults(Needing) == [f"{USAGE}: data.region: field is newly required"]


def test_a_released_version_cannot_be_taken_away(released: Path) -> None:
    events = {type_: event for type_, event in EVENTS.items() if type_ != USAGE}
    assert check(released, events) == [f"{USAGE}: a released version is gone"]


def test_a_snapshot_cannot_be_edited_or_lost(released: Path) -> None:
    snapshot = released / "released" / "usage.recorded.v1.json"
    snapshot.write_text(snapshot.read_text().replace('"maxLength": 64', '"maxLength": 65'))
    assert check(released) == [f"{USAGE}: released/usage.recorded.v1.json is not what was released"]
    snapshot.unlink()
    assert check(released) == [f"{USAGE}: released/usage.recorded.v1.json is not what was released"]


def test_an_older_version_needs_an_upcast_and_the_newest_has_none(released: Path) -> None:
    first = EVENTS[USAGE]
    second = EventVersion("usage.recorded", 2, UsageRecorded)

    def same(data: Contract) -> Contract:
        return data

    assert check(released, {**EVENTS, second.type: second}) == [f"{USAGE}: no upcast to the next version"]
    assert check(released, {**EVENTS, USAGE: replace(first, upcast=same), second.type: second}) == []
    assert check(released, {**EVENTS, USAGE: replace(first, upcast=same)}) == [
        f"{USAGE}: the newest version has an upcast"
    ]


def test_the_command_fails_on_a_fault_and_then_records_nothing(
    released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check", "--root", str(released)]) == 0
    snapshot = released / "released" / "usage.recorded.v1.json"
    snapshot.write_text("{}")
    assert main(["--check", "--root", str(released)]) == 1
    assert main(["--root", str(released)]) == 1
    assert snapshot.read_text() == "{}"
    assert "is not what was released" in capsys.readouterr().out


def test_the_command_records_new_versions(released: Path) -> None:
    shutil.rmtree(released / "released")
    (released / "released.toml").unlink()
    assert main(["--check", "--root", str(released)]) == 0
    assert not (released / "released.toml").exists()
    assert main(["--root", str(released)]) == 0
    assert {entry.type for entry in read_released(released)} == set(EVENTS)
    assert check(released) == []
    assert generate(["--check", "--root", str(released)]) == 0


def _release(root: Path, change: Callable[[Schema], None]) -> None:
    """As if the version had been released otherwise than it is now."""
    snapshot = root / "released" / "usage.recorded.v1.json"
    before = sha256(snapshot.read_bytes()).hexdigest()
    schema = json.loads(snapshot.read_text())
    change(schema)
    snapshot.write_text(json.dumps(schema))
    after = sha256(snapshot.read_bytes()).hexdigest()
    toml = root / "released.toml"
    toml.write_text(toml.read_text().replace(before, after))


def _open_tokens(schema: Schema) -> None:
    del schema["$defs"]["Tokens"]["additionalProperties"]


def test_a_tightening_is_recorded_with_its_reason_for_good(released: Path) -> None:
    known = read_tightened(released)
    _release(released, _open_tokens)
    change = "data.tokens: additionalProperties changed"
    assert check(released) == [f"{USAGE}: {change}"]
    assert main(["--root", str(released)]) == 1
    assert main(["--root", str(released), "--tighten", 'what is not read is "given" away']) == 0
    tightened = read_tightened(released)
    assert tightened == [*known, Tightened(USAGE, change, 'what is not read is "given" away')]
    assert main(["--check", "--root", str(released)]) == 0
    assert main(["--root", str(released)]) == 0
    assert read_tightened(released) == tightened


@pytest.mark.parametrize("change", [_add_optional, _null_too, _more_values])
def test_what_readers_or_right_publishers_rely_on_cannot_be_tightened(
    released: Path, change: Callable[[Schema], None]
) -> None:
    _release(released, change)
    recorded = (released / "released.toml").read_text()
    assert main(["--root", str(released), "--tighten", "because"]) == 1
    assert (released / "released.toml").read_text() == recorded
