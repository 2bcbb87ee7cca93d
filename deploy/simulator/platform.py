"""The platform as its users reach it: the gateway's HTTP surface, with development tokens of the local stack."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import httpx

from deploy.local.errors import StackError
from deploy.ops.tokens import sign

__all__ = ["Platform", "PlatformError", "Who", "operator", "person", "service_account"]

_TIMEOUT_S = 15.0
_RETRY_FIRST_S = 0.25
_RETRY_LONGEST_S = 5.0
_SERVER_ERROR = 500


class Who(NamedTuple):
    """The claims of a token."""

    claims: Mapping[str, Any]


def person(user_id: str) -> Who:
    """Somebody whose mandates and roles the directory knows."""
    return Who({"sub": user_id})


def operator(user_id: str) -> Who:
    """A system administrator."""
    return Who({"sub": user_id, "rappen_system_admin": True})


def service_account(name: str, *scopes: str) -> Who:
    """A service account with its scopes."""
    return Who({"sub": f"service:{name}", "scope": " ".join(scopes)})


class PlatformError(StackError):
    """An answer that is not a success, with the code of its problem document; 0 when there was no answer."""

    def __init__(self, what: str, status: int, code: str, detail: str) -> None:
        super().__init__(f"{what}: {detail}")
        self.status = status
        self.code = code


class Platform:
    """Calls the gateway of a running stack; `stack` is the content of its `stack.json`."""

    def __init__(self, client: httpx.AsyncClient, stack: Mapping[str, Any]) -> None:
        self._client = client
        self._gateway: str = stack["gateway"]
        self._issuer: dict[str, str] = stack["issuer"]

    async def call(
        self,
        method: str,
        path: str,
        who: Who,
        *,
        body: object = None,
        content: bytes | None = None,
        content_type: str = "application/json",
        idempotency_key: str | None = None,
        patience_s: float = 0.0,
    ) -> Any:
        """The JSON of the answer, its numbers exact. Raises `PlatformError` for what is no success.

        For `patience_s` it tries again where that can help: no answer, too many requests, a dependency that is away.
        So give it time only where a repeat does no harm.
        """
        headers = {"content-type": content_type}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        sent = json.dumps(body).encode() if body is not None else content
        deadline = time.monotonic() + patience_s
        pause_s = _RETRY_FIRST_S
        while True:
            wait_s = pause_s
            try:
                answer = await self._send(method, path, who, headers, sent)
                if answer.is_success:
                    return json.loads(answer.content, parse_float=Decimal)
                error = _problem(f"{method} {path}", answer)
                if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                    wait_s = float(answer.headers.get("retry-after", pause_s))
                elif answer.status_code < _SERVER_ERROR:
                    raise error
            except httpx.TransportError as failure:
                error = PlatformError(f"{method} {path}", 0, "NO_ANSWER", f"no answer ({type(failure).__name__})")
            if time.monotonic() + wait_s > deadline:
                raise error
            await asyncio.sleep(wait_s)
            pause_s = min(pause_s * 2, _RETRY_LONGEST_S)

    async def _send(
        self, method: str, path: str, who: Who, headers: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        token = sign(self._issuer, dict(who.claims), now_s=int(time.time()))
        return await self._client.request(
            method,
            f"{self._gateway}{path}",
            headers={**headers, "authorization": f"Bearer {token}"},
            content=content,
            timeout=_TIMEOUT_S,
        )


def _problem(what: str, answer: httpx.Response) -> PlatformError:
    try:
        body = answer.json()
    except ValueError:
        body = None
    document: dict[str, Any] = body if isinstance(body, dict) else {}
    detail = str(document.get("detail") or document.get("title") or answer.text[:200])
    errors = "; ".join(f"{fault.get('field')}: {fault.get('message')}" for fault in document.get("errors", ())[:3])
    detail = f"{answer.status_code} {detail}" + (f" ({errors})" if errors else "")
    return PlatformError(what, answer.status_code, str(document.get("code", "")), detail)
