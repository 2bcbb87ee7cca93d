"""Paths that are requested so often that the web framework's layers would cost more than the answer.

A direct path is answered in front of the application, with the same request ids, deadlines and problem documents. Such
requests count as reads, which may be repeated.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.chassis.deadlines import ANSWER_S, Deadline
from services.chassis.problems import REQUEST_ID_HEADER, failure_response, identify, mark_as_read

__all__ = ["DirectHandler", "DirectPaths"]

DirectHandler: TypeAlias = Callable[[Request], Awaitable[Response]]


class DirectPaths:
    """An ASGI application: some paths of `POST` by handlers of their own, everything else by the application behind."""

    def __init__(self, behind: ASGIApp, handlers: Mapping[str, DirectHandler]) -> None:
        self._behind = behind
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        handler = self._handlers.get(scope["path"]) if scope["type"] == "http" else None
        if handler is None or scope["method"] != "POST":
            await self._behind(scope, receive, send)
            return
        request = Request(scope, receive)
        request_id = identify(request)
        mark_as_read(request)
        try:
            async with Deadline(ANSWER_S):
                response = await handler(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer to it is a problem document.
            response = failure_response(request, error)
        response.headers[REQUEST_ID_HEADER] = request_id
        await response(scope, receive, send)
