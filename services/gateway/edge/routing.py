"""Where a request goes: to what answers it directly, to a route of the web framework, or to 405."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from re import Pattern
from typing import TypeAlias

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from services.chassis.problems import answer_directly

__all__ = ["Answering", "Direct", "DirectPaths", "in_order"]

Answering: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Direct:
    """A method on a path, by its template, and what answers it."""

    method: str
    path: str
    answering: Answering


class DirectPaths:
    """An ASGI application: operations that are answered in front of the web framework, whose layers would cost as much
    as all the rest of forwarding; everything else by the application behind. A literal path comes before one with a
    value in its place."""

    def __init__(self, behind: ASGIApp, operations: Iterable[Direct], *, answer_s: float) -> None:
        self._behind = behind
        self._answer_s = answer_s
        self._literal: dict[tuple[str, str], Answering] = {}
        # By method and number of segments, so that few patterns are tried.
        self._valued: dict[tuple[str, int], list[tuple[Pattern[str], Answering]]] = {}
        for operation in sorted(operations, key=lambda each: each.path):
            if "{" not in operation.path:
                self._literal[operation.method, operation.path] = operation.answering
                continue
            pattern, _, _ = compile_path(operation.path)
            key = operation.method, operation.path.count("/")
            self._valued.setdefault(key, []).append((pattern, operation.answering))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        answering = self._find(scope) if scope["type"] == "http" else None
        if answering is None:
            await self._behind(scope, receive, send)
        else:
            await answer_directly(answering, scope, receive, send, answer_s=self._answer_s)

    def _find(self, scope: Scope) -> Answering | None:
        method, path = scope["method"], scope["path"]
        literal = self._literal.get((method, path))
        if literal is not None:
            return literal
        for pattern, answering in self._valued.get((method, path.count("/")), ()):
            found = pattern.match(path)
            if found is not None:
                scope["path_params"] = found.groupdict()
                return answering
        return None


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
