"""The API in front of the web framework, which serves everything else: the framework would try one pattern after the
other, and spend more on a request than answering it does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.fakestripe.api import Api
from deploy.fakestripe.operation import Operation

# Of the second version the fake has nothing, and says so as Stripe does.
PREFIXES = ("/v1/", "/v2/")
# Where a path has a parameter; no segment of a path can be this.
_ANY = "/"


@dataclass
class _Node:
    """What follows a segment of a path, and the operations by method where it may end."""

    next: dict[str, _Node] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)


class Front:
    """An application that answers what begins with a version of the API, and gives the rest to another one."""

    def __init__(self, api: Api, operations: Iterable[Operation], rest: ASGIApp) -> None:
        self._api = api
        self._rest = rest
        self._root = _Node()
        for operation in operations:
            node = self._root
            for segment in operation.path.split("/"):
                node = node.next.setdefault(_ANY if segment.startswith("{") else segment, _Node())
            # Of two for the same method and path the first counts.
            node.operations.setdefault(operation.method, operation)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or whatever else the server has to say."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIXES):
            await self._rest(scope, receive, send)
            return
        segments = scope["path"].split("/")
        operation = self._find(scope["method"], segments)
        scope["path_params"] = {} if operation is None else _parameters(operation, segments)
        response = await self._api.guarded(Request(scope, receive), operation)
        await response(scope, receive, send)

    def _find(self, method: str, segments: list[str]) -> Operation | None:
        """Return the operation of an address, or nothing where Stripe has none: then the answer says so."""
        node = self._root
        for segment in segments:
            found = node.next.get(segment) or (node.next.get(_ANY) if segment else None)
            if found is None:
                return None
            node = found
        return node.operations.get(method)


def _parameters(operation: Operation, segments: list[str]) -> dict[str, str]:
    pairs = zip(operation.path.split("/"), segments, strict=True)
    return {name[1:-1]: segment for name, segment in pairs if name.startswith("{")}
