"""Billing's internal HTTP: the public paths, for callers whose signed context the gateway vouches for."""

from fastapi import APIRouter

from services.billing.api import accounts, balances, checks, mandates, prices, transactions
from services.billing.api.context import ApiContext
from services.billing.repository.prices import Tariffs
from services.billing.settings import BillingSettings
from services.chassis.caller import CallerVerifier
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["build"]


def build(settings: BillingSettings, *, database: Database, caller: CallerVerifier, clock: Clock) -> APIRouter:
    """All routes of the api role."""
    context = ApiContext(settings, database, caller, clock, Tariffs())
    router = APIRouter()
    # Checks first: routes are tried in their order, and this one is asked before every AI call.
    for resource in (checks, balances, transactions, mandates, accounts, prices):
        router.include_router(resource.routes(context))
    return router
