"""Rate limits per caller and operation, and the headers that describe them."""

import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.access.errors import RateLimited
from services.gateway.access.identity import Identity
from services.gateway.access.windows import WINDOW, Windows
from services.gateway.settings import RateLimitSettings

__all__ = ["RATE_LIMIT_HEADERS", "RateLimitHeaders", "RateLimits"]

# The IETF's draft-ietf-httpapi-ratelimit-headers.
RATE_LIMIT_HEADERS = ("RateLimit", "RateLimit-Policy")
WINDOW_S = int(WINDOW.total_seconds())


class RateLimits:
    """Counts requests by the wall clock, whatever time the platform has been moved to."""

    def __init__(self, settings: RateLimitSettings, windows: Windows) -> None:
        self._settings = settings
        self._windows = windows

    async def take(self, identity: Identity, operation_id: str, limit: int | None) -> dict[str, str]:
        """Takes one request of the caller's minute and gives the headers that say what is left; refuses beyond it."""
        quota = self._quota(identity, operation_id, limit)
        if quota is None:
            return {}
        taken = await self._windows.take(identity.subject, operation_id, quota)
        seconds = max(1, min(WINDOW_S, math.ceil(taken.reset_s)))
        headers = {
            "RateLimit-Policy": f'"default";q={quota};w={WINDOW_S}',
            "RateLimit": f'"default";r={max(0, taken.remaining)};t={seconds}',
        }
        if not taken.granted:
            raise RateLimited(seconds=seconds, headers={"Retry-After": str(seconds), **headers})
        return headers

    def _quota(self, identity: Identity, operation_id: str, limit: int | None) -> int | None:
        if not self._settings.enabled:
            return None
        return (
            self._settings.service_account
            if identity.service_account
            else self._settings.overrides.get(operation_id, limit)
        )


class RateLimitHeaders:
    """Adds the headers of a request's limit to its answer, whatever the answer is; plain ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on; the limit's headers are put into its state when it is taken."""

        async def send_with_limit(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: dict[str, str] = scope.get("state", {}).get("rate_limit", {})
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), text.encode()) for name, text in headers.items()),
                ]
            await send(message)

        await self._app(scope, receive, send_with_limit)
