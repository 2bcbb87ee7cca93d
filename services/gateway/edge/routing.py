"""The order of routes behind what is answered directly, with 405 for a method that a path lacks."""

from collections.abc import Iterable, Sequence

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from services.chassis.requests import Direct

__all__ = ["in_order"]


def in_order(routes: Iterable[APIRoute], direct: Iterable[Direct]) -> list[BaseRoute]:
    """The routes so that literal paths come first: what they do not serve is then still tried as a value in a path.

    Behind them a method that is not there, also on a path that is answered directly, is answered with all that are: by
    itself a route knows its own alone.
    """
    served = sorted(routes, key=lambda route: _literal_first(route.path))
    there = [(route.path, method) for route in served for method in sorted(route.methods or ())]
    there += [(each.path, each.method) for each in direct]
    methods: dict[str, list[str]] = {}
    for path, method in sorted(there, key=lambda each: _literal_first(each[0])):
        methods.setdefault(path, []).append(method)
    return [*served, *(Route(path, _MethodNotAllowed(known)) for path, known in methods.items())]


def _literal_first(path: str) -> tuple[bool, str]:
    return "{" in path, path


class _MethodNotAllowed:
    """405 with the methods of a path; plain ASGI, which takes every method."""

    def __init__(self, methods: Sequence[str]) -> None:
        self._allow = ", ".join(methods)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(405, headers={"Allow": self._allow})
