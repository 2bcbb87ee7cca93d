"""Everything that people read is there in English and German, and no text of a library is among it."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import string
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core.core_schema import ErrorType

from rappen_contracts.errors import CODES
from rappen_contracts.types import Identifier, NonNegativeMoney, Timestamp
from rappen_contracts.usage.v1 import TOKEN_KINDS
from services.chassis import caller, exact_json, problems, validation
from services.chassis.problems import Problem
from services.chassis.requests import failure_response, problem_response
from services.chassis.validation import Form, contract_texts, faults_of, value_fault
from tests.support.stack import ROOT

# The errors of each service, and those of each of its subjects.
ERRORS = [path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / "services").rglob("errors.py"))]
MODULES = [problems, caller, exact_json] + [importlib.import_module(".".join(path.parts)) for path in ERRORS]
LIBRARY = re.compile(r"Input should|String should|should match|Field required|[Vv]alue error|List should|Extra in|\^")


def every_problem() -> list[type[Problem]]:
    found = {
        each
        for module in MODULES
        for _, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, Problem)
    }
    return sorted(found, key=lambda each: (each.__module__, each.__name__))


def a_request(language: str) -> Request:
    headers = [(b"accept-language", language.encode())]
    return Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers})


def document(response: Any) -> dict[str, Any]:
    told: dict[str, Any] = TypeAdapter(dict[str, Any]).validate_json(response.body)
    return told


@pytest.mark.parametrize("problem", every_problem(), ids=lambda each: f"{each.__module__}.{each.__name__}")
def test_every_refusal_says_the_same_in_both_languages(problem: type[Problem]) -> None:
    english, german = problem.texts["en"], problem.texts["de"]
    assert english != german
    assert problem.code.isupper()
    assert problem.status in problems._GERMAN_TITLES
    names = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (english, german)]
    # The German sentence may leave a technical reason out, and never names what is not there.
    assert names[1] <= names[0]
    try:
        made = problem()
    except TypeError:
        return  # It needs to be told what it is about; the tests of the surface raise it.
    if not names[0]:
        one, other = (document(problem_response(a_request(language), made)) for language in ("en", "de"))
        assert (one["code"], one["status"]) == (other["code"], other["status"])
        assert one["title"] != other["title"]
        assert one["detail"] != other["detail"]


def test_every_code_of_the_contracts_has_a_german_text() -> None:
    assert CODES.keys() - validation._CONTRACT_GERMAN.keys() == set()
    for code in CODES:
        texts = contract_texts(code, "data.tokens.input: must not be negative")
        assert texts["de"].startswith("data.tokens.input: ")
        assert texts["de"] != texts["en"]


def test_the_german_refusal_of_a_kind_of_tokens_names_those_that_there_are() -> None:
    kinds = "there are input, cache_read, output"
    assert contract_texts("UNKNOWN_TOKEN_KIND", f"tokens.*: no such kind; {kinds}") == {
        "en": f"tokens.*: no such kind; {kinds}",
        "de": f"tokens.*: diese Art von Tokens gibt es nicht; es gibt {', '.join(TOKEN_KINDS)}",
    }


def test_every_fault_of_the_library_that_has_a_text_is_one_and_its_values_are_there() -> None:
    assert validation._LIBRARY.keys() <= set(ErrorType.__args__)  # type: ignore[attr-defined]
    for kind, texts in validation._LIBRARY.items():
        assert texts["en"] != texts["de"] or kind in ("enum", "literal_error")


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    text: Annotated[str, StringConstraints(min_length=2, max_length=3)]
    id: Identifier
    form: Annotated[str, Form(r"^[A-Z]{2}$", "two capital letters", "zwei Grossbuchstaben")]
    pattern: Annotated[str, StringConstraints(pattern=r"^\d+$")]
    whole: Annotated[int, Field(ge=1, le=5)]
    flag: bool
    number: Annotated[float, Field(gt=0, lt=1)]
    choice: Literal["own", "next"]
    names: Annotated[list[str], Field(min_length=1, max_length=2)]
    entries: dict[str, str]
    money: NonNegativeMoney
    time: Timestamp
    more: _Part | None = None
    either: int | list[str] | None = None


def wrong_bodies() -> Iterator[Any]:
    for wrong in (
        None,
        7,
        -1,
        1.5,
        True,
        "",
        "x",
        "\ud800",
        "a\x00b",
        "long text",
        [],
        [1, 2, 3],
        {},
        {"": 1},
        10**400,
    ):
        yield dict.fromkeys(_Part.model_fields, wrong)
        yield {"more": dict.fromkeys(_Part.model_fields, wrong), "unknown": wrong}
        yield wrong


def test_no_fault_of_a_field_is_told_in_the_words_of_the_library() -> None:
    for body in wrong_bodies():
        with pytest.raises(ValidationError) as raised:
            _Part.model_validate(body)
        for fault in faults_of(raised.value):
            english, german = fault.wire("en"), fault.wire("de")
            assert english["field"] == german["field"]
            assert not re.search(r"[\[\]()]", english["field"])
            assert not LIBRARY.search(english["message"] + german["message"]), fault
            assert english["message"] != german["message"], fault
        told = document(failure_response(a_request("de"), raised.value))
        assert told["detail"].startswith("Die Anfrage ist ungültig: ")


def test_a_value_that_a_validator_refuses_says_so_in_both_languages() -> None:
    def check(value: str) -> str:
        raise value_fault("colour", en="a colour is expected", de="eine Farbe wird erwartet")

    with pytest.raises(ValidationError) as raised:
        TypeAdapter(Annotated[str, validation_of(check)]).validate_python("x")
    (fault,) = faults_of(raised.value, prefix="paint")
    assert fault.wire("en") == {"field": "paint", "message": "a colour is expected"}
    assert fault.wire("de") == {"field": "paint", "message": "eine Farbe wird erwartet"}


def validation_of(check: Any) -> Any:
    from pydantic import AfterValidator

    return AfterValidator(check)


def test_services_raise_no_fault_without_a_german_text() -> None:
    for file in sorted((ROOT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "PydanticCustomError":
                code = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
                known = code in validation._CONTRACT_GERMAN
                assert known or len(node.args) == 3 or file.parts[-2:] == ("plans", "json_form.py"), file
