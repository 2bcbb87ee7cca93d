"""Bodies with numbers that no use has are refused before anything works with them."""

from decimal import Decimal

import pytest
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from services.chassis.exact_json import (
    DuplicateKey,
    ExactJsonResponse,
    JsonNumber,
    MalformedJson,
    NumberOutOfRange,
    read_json,
)


@pytest.mark.parametrize(
    "number",
    [
        "1e999999999",
        "-1E999999999",
        "1e-999999999",
        "0e999999999",
        "1e401",
        "1e-401",
        # More than the exponent of a decimal can be at all.
        "1e99999999999999999999",
        "1e" + "9" * 5000,
        "9" * 401,
        "-" + "9" * 5000,
        "0." + "1" * 400,
    ],
)
@pytest.mark.parametrize("body", ["%s", "[%s]", '{"amount": %s}', '{"a": {"b": [1, %s]}}'])
def test_a_number_beyond_all_use_is_refused(body: str, number: str) -> None:
    with pytest.raises(NumberOutOfRange) as refused:
        read_json((body % number).encode())
    assert refused.value.status == 422


@pytest.mark.parametrize("number", ["1.7976931348623157e308", "5e-324", "-0.0", "1e400", "0.1", "12.340000"])
def test_a_number_that_any_language_writes_is_read_exactly(number: str) -> None:
    read = read_json(f'{{"amount": {number}}}'.encode())["amount"]
    assert isinstance(read, JsonNumber)
    assert read == Decimal(number)


def test_a_whole_number_is_an_integer() -> None:
    assert read_json(b"[0, -1, 9007199254740993]") == [0, -1, 9007199254740993]
    assert read_json(b"9" * 400) == 10**400 - 1


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"a": "\xff"}', b"NaN", b"-Infinity"])
def test_what_is_not_json_in_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        read_json(body)


@pytest.mark.parametrize(
    "body", [b'{"amount": 1, "amount": 1000}', b'[{"a": {"b": 1, "b": 1}}]', b'{"amount": 1, "\\u0061mount": 2}']
)
def test_an_amount_that_is_said_twice_is_none(body: bytes) -> None:
    """Of two values programs take the first, the last or both: what was looked at need not be what is done."""
    with pytest.raises(DuplicateKey) as refused:
        read_json(body)
    assert (refused.value.status, refused.value.code) == (422, "DUPLICATE_KEY")


class Priced(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    unit_price: Decimal


def test_a_model_is_written_with_the_names_of_the_wire_and_all_digits() -> None:
    priced = Priced(unitPrice=Decimal("0.10000000000000000000000001"))
    assert ExactJsonResponse({"items": [priced]}).body == b'{"items":[{"unitPrice":0.10000000000000000000000001}]}'
