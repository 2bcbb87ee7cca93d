"""The HTTP of the subscriptions service: the public paths, called by the gateway with the caller's signed context."""

from fastapi import APIRouter

from services.subscriptions.lifecycle import api as lifecycle
from services.subscriptions.plans import api as plans
from services.subscriptions.store import api as store

__all__ = ["routes"]


def routes(prefix: str) -> APIRouter:
    """Every route; those of subscriptions are below the prefix, and the plans come first there, because their path also
    reads as that of a mandate called `plans`."""
    own = APIRouter(prefix=prefix)
    own.include_router(plans.api)
    own.include_router(lifecycle.api)
    router = APIRouter()
    router.include_router(own)
    router.include_router(store.api)
    router.include_router(lifecycle.internal)
    return router
