"""JSON over HTTP without floats: numbers are read as exact decimals from their literals and written from decimals."""

import json
from collections.abc import Callable, Coroutine
from decimal import Decimal, InvalidOperation
from functools import wraps
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.datastructures import DefaultPlaceholder
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = [
    "BodyTooLarge",
    "DuplicateKey",
    "ExactJsonResponse",
    "ExactJsonRoute",
    "JsonNumber",
    "MalformedJson",
    "NumberOutOfRange",
    "read_json",
]

BODY_BYTES_MAX = 4 * 1024 * 1024
# Every double of another language fits, and every exact number of practical use.
_NUMBER_LENGTH_MAX = 400


class MalformedJson(Problem):
    """The body is no JSON text."""

    status = 422
    code = "MALFORMED_JSON"
    title = "Malformed JSON"
    texts = both("The body is not valid JSON.", "Der Inhalt ist kein gültiges JSON.")


class BodyTooLarge(Problem):
    """The body is larger than any request needs."""

    status = 413
    code = "BODY_TOO_LARGE"
    title = "Too large"
    texts = both("The request is too large.", "Die Anfrage ist zu gross.")


class DuplicateKey(Problem):
    """An object has a key twice, so it is ambiguous which value is meant."""

    status = 422
    code = "DUPLICATE_KEY"
    title = "Duplicate key"
    texts = both("An object in the body has a key twice.", "Ein Objekt im Inhalt hat einen Schlüssel zweimal.")


class NumberOutOfRange(Problem):
    """A number beyond any amount, count or time; computing with it could exhaust the memory."""

    status = 422
    code = "NUMBER_OUT_OF_RANGE"
    title = "Number out of range"
    texts = both(
        "The body has a number that is too large, too small or too long.",
        "Der Inhalt hat eine Zahl, die zu gross, zu klein oder zu lang ist.",
    )


class JsonNumber(Decimal):
    """A decimal that was a JSON number: accepted on the older paths, refused where money travels as a string."""


def _refuse_constant(name: str) -> object:
    raise MalformedJson(code="MALFORMED_JSON")


def _decimal(literal: str) -> JsonNumber:
    try:
        number = JsonNumber(literal)
    except InvalidOperation:
        raise NumberOutOfRange from None
    if len(literal) > _NUMBER_LENGTH_MAX or abs(number.adjusted()) > _NUMBER_LENGTH_MAX:
        raise NumberOutOfRange
    return number


def _integer(literal: str) -> int:
    if len(literal) > _NUMBER_LENGTH_MAX:
        raise NumberOutOfRange
    return int(literal)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise DuplicateKey
    return content


# Made once, because `json.loads` makes one for each body that it reads with functions of ours.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_decimal, parse_int=_integer, parse_constant=_refuse_constant
)


def read_json(body: bytes) -> Any:
    """Parses a body of UTF-8 without a byte-order mark; NaN, Infinity, numbers out of range, duplicate keys and invalid
    JSON are refused; numbers with a point become exact decimals."""
    if len(body) > BODY_BYTES_MAX:
        raise BodyTooLarge
    try:
        content = _DECODER.decode(body.decode())
        if b"\\u" in body:
            # An escape can be a lone surrogate, which cannot be encoded as UTF-8 later.
            json.dumps(content, ensure_ascii=False, default=str).encode()
    except (ValueError, RecursionError) as error:
        raise MalformedJson from error
    return content


class _ExactRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_exact"):
            self._exact = read_json(await self.body())
        return self._exact


class ExactJsonRoute(APIRoute):
    """A route whose numbers never pass through a float: neither those of its body nor those of its answer."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        # FastAPI's own encoding would turn decimals into floats or strings, so the model only documents the answer.
        model = options.pop("response_model", None)
        documented = None if isinstance(model, DefaultPlaceholder) else model
        super().__init__(path, _exactly(endpoint), **options, response_model=documented)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, given a request that parses exactly."""
        handler = super().get_route_handler()

        async def exact(request: Request) -> Response:
            try:
                return await handler(_ExactRequest(request.scope, request.receive))
            except HTTPException as error:
                # FastAPI wraps what parsing a body raises; our own refusals say more.
                if isinstance(error.__cause__, Problem):
                    raise error.__cause__ from None
                raise

        return exact


def _exactly(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint with its answer already written; its parameters stay as they are."""

    @wraps(endpoint)
    async def written(*arguments: Any, **values: Any) -> Response:
        answer = await endpoint(*arguments, **values)
        return answer if isinstance(answer, Response) else ExactJsonResponse(answer)

    return written


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f").encode())
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True)
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


class ExactJsonResponse(JSONResponse):
    """JSON whose decimals are written as number literals with all their digits, and times in UTC with `Z`."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Writes the content; a float in it is a programming error that a test finds."""
        return orjson.dumps(content, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)
