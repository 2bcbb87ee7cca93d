"""The README's section on the providers: its examples are run, its table is complete."""

import ast
import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

CASES = [
    case
    for path in sorted((Path(__file__).parent / "provider_answers").glob("*.json"))
    for case in json.loads(path.read_text())
]


def _answer(name: str) -> Any:
    (found,) = [case["answer"] for case in CASES if case["name"] == name]
    return found


README = Path(__file__).parents[2] / "contracts" / "README.md"
# The answers that the README's examples read.
README_ANSWERS = {
    "completion": _answer(
        "chat: cached tokens are part of the prompt, reasoning is part of the completion (edutelligence 892)"
    ),
    "image": _answer("images: without details the output is images (case B06)"),
    "message": _answer("messages: an advisor is billed as its own model"),
    "hold_id": "0197c1d2-5555-7abc-8def-0123456789ac",
    "chunks": _answer("generate_content: chunks have running totals, of which the last one counts"),
    "conversation": _answer("mistral: what connectors gave to the model stands beside"),
    "grok_response": _answer("xai: in responses reasoning is inside, and the cost is what was billed"),
    "cohere_chat": _answer("cohere: billed units count, not what the model was given"),
    "converse": _answer("bedrock: all that was written is kept for an hour"),
    "span": _answer("opentelemetry: the input contains the cache for every provider (langfuse 10592)"),
}
EXAMPLES = [
    example
    for example in re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    if "rappen_contracts.adapters" in example
]


def test_the_readme_has_an_example_for_every_way_of_counting() -> None:
    assert {name for example in EXAMPLES for name in README_ANSWERS if re.search(rf"\b{name}\b", example)} == set(
        README_ANSWERS
    )


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_readme_gives_what_it_says(example: str) -> None:
    lines = example.strip().splitlines()
    shown, _, value = lines[-1].partition("  # ")
    names: dict[str, Any] = copy.deepcopy(README_ANSWERS)
    exec("\n".join(lines[:-1]), names)
    assert eval(shown, names) == ast.literal_eval(value)


def test_the_readme_names_every_function() -> None:
    (section,) = re.findall(r"^## Usage of the providers\n(.*?)^## ", README.read_text(), re.MULTILINE | re.DOTALL)
    for case in CASES:
        module, _, function = case["adapter"].partition(".")
        assert re.search(rf"`{module}\.", section)
        assert re.search(rf"`(?:{module})?\.{function}`", section)
