"""The HTTP of the subscriptions service: the public paths, called by the gateway with the caller's signed context."""

from fastapi import APIRouter

from services.subscriptions.lifecycle import api as lifecycle
from services.subscriptions.plans import api as plans

__all__ = ["routes"]


def routes(prefix: str) -> APIRouter:
    """Every route. The plans come first, because their path also reads as that of a mandate called `plans`."""
    router = APIRouter(prefix=prefix)
    router.include_router(plans.api)
    router.include_router(lifecycle.api)
    return router
