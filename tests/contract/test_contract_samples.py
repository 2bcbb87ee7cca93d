"""The real payloads of every released version are read for ever, to the digest that ledgers hold."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rappen_contracts import EVENTS, decode, encode, encode_structured
from rappen_contracts.compatibility import read_released

ROOT = Path(__file__).parents[2] / "contracts"
SAMPLES = sorted((ROOT / "samples").glob("*/v*/*.json"))
NOW = datetime(2027, 1, 1, tzinfo=UTC)
STRUCTURED = [("content-type", b"application/cloudevents+json; charset=utf-8")]

each_sample = pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")


def _envelope(path: Path) -> dict[str, Any]:
    envelope: dict[str, Any] = json.loads(path.read_bytes())
    return envelope


def _binary_headers(envelope: dict[str, Any]) -> list[tuple[str, bytes]]:
    names = ("specversion", "id", "source", "type", "time")
    return [(f"ce_{name}", envelope[name].encode()) for name in names]


@each_sample
def test_a_sample_is_read_to_its_recorded_digest(path: Path) -> None:
    recorded = json.loads((ROOT / "samples" / "digests.json").read_text())
    event = decode(STRUCTURED, path.read_bytes(), now=NOW)
    assert event.digest.hex() == recorded[str(path.relative_to(ROOT / "samples"))]


def test_every_sample_has_a_digest_of_its_own() -> None:
    recorded = json.loads((ROOT / "samples" / "digests.json").read_text())
    assert recorded.keys() == {str(path.relative_to(ROOT / "samples")) for path in SAMPLES}
    assert len(set(recorded.values())) == len(recorded)


@each_sample
def test_binary_and_structured_mode_say_the_same(path: Path) -> None:
    envelope = _envelope(path)
    structured = decode(STRUCTURED, path.read_bytes(), now=NOW)
    binary = decode(_binary_headers(envelope), json.dumps(envelope["data"]).encode(), now=NOW)
    assert (binary.id, binary.type, binary.source, binary.time) == (
        structured.id,
        structured.type,
        structured.source,
        structured.time,
    )
    assert binary.data == structured.data
    assert binary.digest == structured.digest


@each_sample
def test_what_was_read_is_written_and_read_again_unchanged(path: Path) -> None:
    event = decode(STRUCTURED, path.read_bytes(), now=NOW)
    record = encode(
        event.data,
        type=event.type,
        id=event.id,
        source=event.source,
        time=event.time,
        key="key",
        traceparent=event.traceparent,
    )
    assert decode(record.headers, record.value, now=NOW) == event
    assert decode(STRUCTURED, json.dumps(encode_structured(event)).encode(), now=NOW) == event


@each_sample
def test_a_sample_fits_the_generated_schema(path: Path) -> None:
    envelope = _envelope(path)
    event = EVENTS[envelope["type"]]
    schema = json.loads((ROOT / "generated" / f"{event.name}.v{event.major}.json").read_text())
    Draft202012Validator(schema).validate(envelope["data"])


def test_every_released_version_has_a_minimal_a_full_and_a_foreign_sample() -> None:
    released = read_released(ROOT)
    assert {entry.type for entry in released} == set(EVENTS)
    for entry in released:
        event = EVENTS[entry.type]
        names = {path.stem for path in SAMPLES if path.parts[-3:-1] == (event.name, f"v{event.major}")}
        assert "minimal" in names
        assert any(name.startswith("foreign") for name in names)
        assert len(names) >= 3


def test_the_samples_together_use_every_field_of_every_contract() -> None:
    for type_, event in EVENTS.items():
        folder = ROOT / "samples" / event.name / f"v{event.major}"
        used = {name for path in folder.glob("*.json") for name in _envelope(path)["data"]}
        assert set(event.model.model_fields) <= used, type_
