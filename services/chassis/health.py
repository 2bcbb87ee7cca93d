"""Whether this process should live and whether it should get traffic, on the internal port."""

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

__all__ = ["Health", "health_routes"]

# Whether a component is ready; a text is why it is not.
Check = Callable[[], Awaitable[bool | str]]

CHECK_TIMEOUT_S = 2.0


class Health:
    """Named readiness checks and the draining flag; a check that fails, raises or takes too long is not ready."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self.draining = False

    def register(self, name: str, check: Check) -> None:
        """Adds a component whose readiness counts."""
        self._checks[name] = check

    async def failing(self) -> list[str]:
        """The components that are not ready: their names, with the reason of those that say one."""
        if self.draining:
            return ["draining"]
        names = list(self._checks)
        results = await asyncio.gather(*(self._run(name) for name in names))
        return [
            f"{name}: {ready}" if isinstance(ready, str) else name
            for name, ready in zip(names, results, strict=True)
            if ready is not True
        ]

    async def _run(self, name: str) -> bool | str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                return await self._checks[name]()
        except Exception:  # noqa: BLE001 - whatever a component raises, the answer is that it is not ready.
            return False


def health_routes(health: Health) -> APIRouter:
    """`/healthz`, `/readyz` and `/metrics`; bodies hold nothing but the failing components and why."""
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def ready() -> JSONResponse:
        failing = await health.failing()
        return JSONResponse({"ready": not failing, "failing": failing}, status_code=503 if failing else 200)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router
