"""The HTTP of the subscriptions service: the public paths, called by the gateway with the caller's signed context."""

from fastapi import APIRouter

from services.chassis.caller import CallerVerifier
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.readers import Readers
from services.subscriptions.api import plans, subscriptions
from services.subscriptions.catalogue import Catalogue

__all__ = ["build"]


def build(
    *,
    prefix: str,
    database: Database,
    catalogue: Catalogue,
    caller: CallerVerifier,
    readers: Readers,
    clock: Clock,
) -> APIRouter:
    """Every route. The plans come first, because their path also reads as that of a mandate called `plans`."""
    router = APIRouter(prefix=prefix)
    router.include_router(plans.build(catalogue=catalogue, caller=caller))
    router.include_router(
        subscriptions.build(database=database, catalogue=catalogue, caller=caller, readers=readers, clock=clock)
    )
    return router
