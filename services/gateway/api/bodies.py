"""Request bodies: read up to their limit, of the announced type, JSON without floats, fields checked."""

from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from services.chassis.exact_json import read_json
from services.chassis.problems import InvalidBody
from services.chassis.validation import FieldFault
from services.gateway.api.operations import Body, refusal
from services.gateway.errors import BodyTooLarge, UnsupportedMediaType

__all__ = ["read_body", "read_model", "read_object"]

M = TypeVar("M", bound=BaseModel)

_NO_OBJECT = FieldFault("body", {"en": "a JSON object is expected", "de": "ein JSON-Objekt wird erwartet"})


async def read_body(request: Request, body: Body) -> bytes:
    """The bytes of the body; nothing is read of one whose type or announced length is refused."""
    chunks: list[bytes] = []
    length = 0
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > body.bytes_max:
        raise BodyTooLarge(bytes_max=body.bytes_max)
    _check_type(request, body)
    async for chunk in request.stream():
        length += len(chunk)
        if length > body.bytes_max:
            raise BodyTooLarge(bytes_max=body.bytes_max)
        chunks.append(chunk)
    return b"".join(chunks)


async def read_object(request: Request, body: Body) -> dict[str, Any]:
    """The JSON object of the body."""
    given = read_json(await read_body(request, body))
    if not isinstance(given, dict):
        raise InvalidBody([_NO_OBJECT])
    return given


async def read_model(request: Request, body: Body, model: type[M]) -> M:
    """The body as a model."""
    given = await read_object(request, body)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise refusal(error) from None


def _check_type(request: Request, body: Body) -> None:
    announced = request.headers.get("content-type", "")
    essence, _, parameters = announced.partition(";")
    if not announced and not body.required and request.headers.get("content-length", "0") == "0":
        return
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    # White space of other alphabets is none in a header.
    known = announced.isascii() and essence.strip().lower() in body.media_types
    if not known or charset not in ("", "utf-8", "utf8"):
        raise UnsupportedMediaType(expected=" / ".join(body.media_types))
