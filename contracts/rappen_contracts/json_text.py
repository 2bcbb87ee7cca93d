"""JSON text to Python values, strictly: UTF-8, no duplicate key at any depth, no NaN, no lone surrogate."""

import json
import re
from typing import Any

from pydantic_core import from_json

from rappen_contracts.errors import ContractError

__all__ = ["parse_json", "split_array"]

_SPACED_COLON = re.compile(rb"[ \t\r\n]:")
_PLACE = re.compile(r"line \d+ column \d+")
_BYTE_ORDER_MARK = "\ufeff"
_MARKED = "JSON has no byte-order mark"
_WHITE_SPACE = re.compile(r"[ \t\r\n]*")


def parse_json(value: bytes) -> object:
    """Reads one JSON document; every refusal is a `ContractError`."""
    try:
        payload = from_json(value, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise _syntax_refusal(value, str(error)) from None
    # Every key of the text has a colon behind it, so as many colons as parsed keys means that no key was lost to a
    # duplicate. Where strings have colons too: every key ends in `":` unless white space stands before a colon, so as
    # many `":` as keys means the same where there is none. A string that holds `":` only leads to the slow look.
    keys = _key_count(payload)
    if value.count(b":") != keys and (value.count(b'":') != keys or _SPACED_COLON.search(value)):
        _refuse_duplicate_keys(value)
    return payload


def split_array(body: bytes, maximum: int) -> list[tuple[object, bytes]]:
    """The elements, at most `maximum`, of a JSON array: a first look at each, and its text for `parse_json`.

    The first look has lost duplicate keys, so that an element which has some can still be refused alone. Its integers
    are text, because reading one of thousands of digits raises in Python.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise ContractError("NOT_UTF8", "the body is not UTF-8") from None
    if text.startswith(_BYTE_ORDER_MARK):
        raise ContractError("NOT_JSON", _MARKED)
    position = _after_white_space(text, 0)
    if not text.startswith("[", position):
        raise ContractError("NOT_AN_ARRAY", "a batch is a JSON array")
    position = _after_white_space(text, position + 1)
    elements: list[tuple[object, bytes]] = []
    if not text.startswith("]", position):
        position = _read_elements(text, position, maximum, elements)
    if _after_white_space(text, position + 1) != len(text):
        raise ContractError("NOT_JSON", "text after the end of the array")
    return elements


def _read_elements(text: str, position: int, maximum: int, elements: list[tuple[object, bytes]]) -> int:
    """Appends the elements from `position` on; returns where the closing bracket stands."""
    scan = json.JSONDecoder(parse_int=str).raw_decode
    while True:
        number = len(elements)
        if number == maximum:
            raise ContractError("TOO_MANY_EVENTS", f"at most {maximum} events")
        try:
            element, end = scan(text, position)
        except RecursionError:
            raise ContractError("TOO_DEEP", f"element {number} is nested too deeply") from None
        except ValueError:
            raise ContractError("NOT_JSON", f"element {number} is not JSON") from None
        elements.append((element, text[position:end].encode()))
        position = _after_white_space(text, end)
        if text.startswith("]", position):
            return position
        if not text.startswith(",", position):
            raise ContractError("NOT_JSON", f"neither comma nor end after element {number}")
        position = _after_white_space(text, position + 1)


def _after_white_space(text: str, position: int) -> int:
    found = _WHITE_SPACE.match(text, position)
    return found.end() if found else position


def _syntax_refusal(value: bytes, message: str) -> ContractError:
    """The code for what the parser refused; of its message only the position is kept."""
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return ContractError("NOT_UTF8", f"not UTF-8 at byte {error.start}")
    found = _PLACE.search(message)
    place = f" at {found[0]}" if found else ""
    if "recursion limit" in message:
        return ContractError("TOO_DEEP", f"nested too deeply{place}")
    if "hex escape" in message:
        return ContractError("BAD_TEXT", f"an escape that stands for no character{place}")
    if "number out of range" in message:
        return ContractError("TOO_LARGE", f"a number of too many digits{place}")
    return ContractError("NOT_JSON", _MARKED if text.startswith(_BYTE_ORDER_MARK) else f"not JSON{place}")


def _key_count(payload: object) -> int:
    """The number of keys at all depths; exact types suffice because the parser makes no others."""
    if type(payload) is dict:
        count = len(payload)
        for entry in payload.values():
            if type(entry) is dict or type(entry) is list:
                count += _key_count(entry)
        return count
    if type(payload) is list:
        return sum(map(_key_count, payload))
    return 0


def _refuse_duplicate_keys(value: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ContractError("DUPLICATE_KEY", "an object has a key twice")

    json.loads(value, object_pairs_hook=check, parse_int=str)
