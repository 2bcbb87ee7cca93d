"""The generated files are those of the registry, and complete."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rappen_contracts import EVENTS, SOURCES, TOPICS
from rappen_contracts.generate import main

ROOT = Path(__file__).parents[2] / "contracts"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the contracts folder, without the package, to damage."""
    return Path(shutil.copytree(ROOT, tmp_path / "contracts", ignore=shutil.ignore_patterns("rappen_contracts")))


def _asyncapi() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / "generated" / "asyncapi.json").read_text())
    return document


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for entry in node.values():
            yield from _references(entry)
    elif isinstance(node, list):
        for entry in node:
            yield from _references(entry)


def test_the_committed_files_are_fresh() -> None:
    assert main(["--check", "--root", str(ROOT)]) == 0


@pytest.mark.parametrize("damage", ["changed", "missing", "left over"])
def test_the_check_fails_on_a_stale_file_and_generating_mends_it(
    copy: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copy / "generated" / ("usage.recorded.v0.json" if damage == "left over" else "usage.recorded.v1.json")
    if damage == "missing":
        file.unlink()
    else:
        file.write_text("{}")
    assert main(["--check", "--root", str(copy)]) == 1
    assert capsys.readouterr().out == f"stale: generated/{file.name}\n"
    assert main(["--root", str(copy)]) == 0
    assert main(["--check", "--root", str(copy)]) == 0


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--root", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("type_", EVENTS)
def test_every_version_has_a_schema_of_draft_2020_12(type_: str) -> None:
    event = EVENTS[type_]
    schema = json.loads((ROOT / "generated" / f"{event.name}.v{event.major}.json").read_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == type_
    Draft202012Validator.check_schema(schema)


def test_a_tagged_union_needs_its_tag_in_the_schema() -> None:
    schema = json.loads((ROOT / "generated" / "directory.changed.v1.json").read_text())
    data = {"version": 1, "cause": "c", "entry": {"id": "m-1"}}
    assert not Draft202012Validator(schema).is_valid(data)
    data["entry"] = {"id": "m-1", "kind": "mandate"}
    assert Draft202012Validator(schema).is_valid(data)


def test_the_document_has_every_topic_with_its_dead_letters_and_their_sizes() -> None:
    channels = _asyncapi()["channels"]
    assert list(channels) == [topic.name for topic in TOPICS]
    for topic in TOPICS:
        binding = channels[topic.name]["bindings"]["kafka"]
        assert binding["partitions"] == topic.partitions
        assert binding["topicConfiguration"]["max.message.bytes"] == int(topic.config["max.message.bytes"])


def test_the_document_has_every_message_with_key_headers_and_payload() -> None:
    messages = _asyncapi()["components"]["messages"]
    for source in SOURCES:
        for event in source.events:
            message = messages[f"{event.name}.v{event.major}"]
            assert message["name"] == event.type
            assert source.key in message["bindings"]["kafka"]["key"]["description"]
            assert {"properties": {"ce_type": {"const": event.type}}, "type": "object"} in message["headers"]["allOf"]
            assert message["examples"][0]["headers"]["ce_type"] == event.type
        for group in source.groups:
            letter = messages[f"{source.name}.{group}.dlq"]
            assert letter["headers"] == {"$ref": "#/components/schemas/DeadLetterHeaders"}


def test_the_document_has_every_consumer_group() -> None:
    operations = _asyncapi()["operations"]
    found = {
        (operation["channel"]["$ref"].removeprefix("#/channels/"), operation["bindings"]["kafka"]["groupId"]["enum"][0])
        for operation in operations.values()
        if operation["action"] == "receive"
    }
    assert found == {(source.name, group) for source in SOURCES for group in source.groups}


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = _asyncapi()
    references = set(_references(document))
    assert len(references) > len(EVENTS)
    for reference in references:
        if reference.startswith("./"):
            assert (ROOT / "generated" / reference).is_file()
            continue
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node


def test_generated_files_name_no_host_but_that_of_the_schema_dialect() -> None:
    for file in [*(ROOT / "generated").iterdir(), *(ROOT / "released").iterdir()]:
        assert set(re.findall(r"https?://[^/\"]+", file.read_text())) <= {"https://json-schema.org"}, file.name
