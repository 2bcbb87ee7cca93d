"""Request bodies: read up to their limit, of the announced type, JSON without floats, fields checked."""

import asyncio
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from services.chassis.deadlines import deadline_of
from services.chassis.exact_json import read_json
from services.chassis.problems import InvalidBody
from services.chassis.validation import FieldFault, faults_of
from services.gateway.edge.admission import Call
from services.gateway.edge.errors import BodyTooLarge, BodyTooSlow, UnsupportedMediaType
from services.gateway.edge.operations import Body

__all__ = ["body_of", "read_body", "read_model", "read_object"]

BODY_S = 60.0

M = TypeVar("M", bound=BaseModel)

_NO_OBJECT = FieldFault("body", {"en": "a JSON object is expected", "de": "ein JSON-Objekt wird erwartet"})


async def read_body(request: Request, body: Body) -> bytes:
    """The bytes of the body; a body whose media type or announced length is refused is not read."""
    chunks: list[bytes] = []
    length = 0
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > body.bytes_max:
        raise BodyTooLarge(bytes_max=body.bytes_max)
    if body.type_checked:
        _check_type(request, body)
    # The time that a slow caller takes to send the body does not count towards the time of our answer.
    deadline = deadline_of(request)
    left_s = deadline.left_s()
    deadline.lift()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                length += len(chunk)
                if length > body.bytes_max:
                    raise BodyTooLarge(bytes_max=body.bytes_max)
                chunks.append(chunk)
    except TimeoutError:
        raise BodyTooSlow(seconds=int(BODY_S)) from None
    deadline.restart(left_s)
    return b"".join(chunks)


async def body_of(call: Call) -> bytes:
    """The bytes of the body that the call's operation describes; none where it describes none."""
    return b"" if call.operation.body is None else await read_body(call.request, call.operation.body)


async def read_object(call: Call) -> dict[str, Any]:
    """The JSON object of the body."""
    given = read_json(await body_of(call))
    if not isinstance(given, dict):
        raise InvalidBody([_NO_OBJECT])
    return given


async def read_model(call: Call, model: type[M]) -> M:
    """The body as a model."""
    given = await read_object(call)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InvalidBody(faults_of(error)) from None


def _check_type(request: Request, body: Body) -> None:
    announced = request.headers.get("content-type", "")
    essence, *parameters = announced.split(";")
    if not announced and not body.required and request.headers.get("content-length", "0") == "0":
        return
    given = [parameter.partition("=") for parameter in parameters]
    # Of the parameters of a media type only this one changes how a body is read.
    charsets = [value.strip().lower().strip('"') for name, _, value in given if name.strip().lower() == "charset"]
    # Only ASCII white space counts in a header.
    known = announced.isascii() and essence.strip().lower() in body.media_types
    if not known or not all(value in ("utf-8", "utf8") for value in charsets):
        raise UnsupportedMediaType(expected=" / ".join(body.media_types))
