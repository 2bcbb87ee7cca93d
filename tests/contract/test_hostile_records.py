"""Each hostile record has one code, and what only looks hostile is read."""

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rappen_contracts import CODES, ContractError, decode

ROOT = Path(__file__).parents[2] / "contracts"
FILES = sorted((ROOT / "samples" / "hostile").glob("*.json"))
NOW = datetime(2027, 1, 1, tzinfo=UTC)
# What no record on Kafka can cause or what is too large for a file of samples; tested beside.
ELSEWHERE = {"RECORD_TOO_LARGE", "NOT_AN_ARRAY", "TOO_MANY_EVENTS", "UNDECODABLE"}
# What a JSON Schema can say as well; a fraction such as 5.0 is an integer there, so not every WRONG_TYPE.
IN_SCHEMA = {
    "MISSING_FIELD",
    "NOT_A_STRING",
    "TOO_LONG",
    "TOO_MANY_ENTRIES",
    "TOO_SHORT",
    "UNKNOWN_CURRENCY",
    "UNKNOWN_TOKEN_KIND",
    "UNKNOWN_VALUE",
}

Case = dict[str, Any]


def _cases() -> Iterator[Any]:
    for file in FILES:
        for case in json.loads(file.read_text()):
            yield pytest.param(case, id=f"{file.stem}: {case['name']}")


def _record(case: Case) -> tuple[list[tuple[str, bytes | None]], bytes | None]:
    headers = [(name, None if raw is None else base64.b64decode(raw)) for name, raw in case["headers"]]
    return headers, None if case["value"] is None else base64.b64decode(case["value"])


each_case = pytest.mark.parametrize("case", list(_cases()))


@each_case
def test_a_hostile_record_has_its_code(case: Case) -> None:
    headers, value = _record(case)
    if case["code"] is None:
        assert decode(headers, value, now=NOW).data.model_dump()["mandate_id"] == "m-1"
    else:
        with pytest.raises(ContractError) as refused:
            decode(headers, value, now=NOW)
        assert refused.value.code == case["code"]
        assert refused.value.detail


def test_every_code_has_a_case() -> None:
    seen = {case["code"] for file in FILES for case in json.loads(file.read_text())} - {None}
    assert seen == set(CODES) - ELSEWHERE


def test_the_readme_lists_every_code_with_its_meaning() -> None:
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| (.+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert rows == list(CODES.items())


def test_the_schema_refuses_what_a_schema_can_say() -> None:
    schema = json.loads((ROOT / "generated" / "usage.recorded.v1.json").read_text())
    validator = Draft202012Validator(schema)
    cases = [
        case for case in json.loads((ROOT / "samples/hostile/usage.json").read_text()) if case["code"] in IN_SCHEMA
    ]
    assert {case["code"] for case in cases} == IN_SCHEMA
    for case in cases:
        assert not validator.is_valid(json.loads(base64.b64decode(case["value"]))), case["name"]
