"""The order of the public routes, and the answer for a path that lacks the requested method."""

from collections.abc import Iterable, Sequence

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

__all__ = ["in_order"]


def in_order(routes: Iterable[APIRoute]) -> list[BaseRoute]:
    """The routes so that literal paths come first: what they do not serve is then still tried as a value in a path.

    Behind them a method that is not there is answered with all that are: by itself a route knows its own alone.
    """
    methods: dict[str, list[str]] = {}
    served = sorted(routes, key=lambda route: ("{" in route.path, route.path))
    for route in served:
        methods.setdefault(route.path, []).extend(sorted(route.methods or ()))
    return [*served, *(Route(path, _MethodNotAllowed(there)) for path, there in methods.items())]


class _MethodNotAllowed:
    """405 with the methods of a path; plain ASGI, which takes every method."""

    def __init__(self, methods: Sequence[str]) -> None:
        self._allow = ", ".join(methods)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(405, headers={"Allow": self._allow})
