"""Public resources: the OpenAPI document and, in development, the keys that tokens are verified with."""

from typing import Any

import orjson
from fastapi import APIRouter, Response

__all__ = ["well_known_routes"]


def well_known_routes(document: dict[str, Any], development_key: dict[str, Any] | None) -> APIRouter:
    """`/openapi.json` and, where there is a development issuer, `/.well-known/jwks.json`."""
    router = APIRouter(include_in_schema=False)
    described = orjson.dumps(document)

    @router.get("/openapi.json")
    async def openapi() -> Response:
        return Response(described, media_type="application/json")

    if development_key is not None:
        keys = orjson.dumps({"keys": [development_key]})

        @router.get("/.well-known/jwks.json")
        async def jwks() -> Response:
            return Response(keys, media_type="application/jwk-set+json")

    return router
