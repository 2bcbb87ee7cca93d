"""Billing's internal HTTP: the public paths, for callers whose signed context the gateway vouches for."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from services.billing.checks import api as checks
from services.billing.checks.direct import DirectPaths
from services.billing.credits import api as accounts
from services.billing.http import ApiContext
from services.billing.mandates import api as mandates
from services.billing.pricing import api as prices
from services.billing.pricing.repository import Tariffs
from services.billing.reports import api_balances as balances
from services.billing.reports import api_transactions as transactions
from services.billing.settings import BillingSettings
from services.chassis.caller import CallerVerifier
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["build"]


def build(
    app: FastAPI, settings: BillingSettings, *, database: Database, caller: CallerVerifier, clock: Clock
) -> ASGIApp:
    """The api role: the application with all routes, behind the direct paths."""
    context = ApiContext(settings, database, caller, clock)
    tariffs = Tariffs()
    app.include_router(balances.routes(context, tariffs))
    app.include_router(transactions.routes(context))
    app.include_router(mandates.routes(context))
    app.include_router(accounts.routes(context))
    app.include_router(prices.routes(context, tariffs))
    return DirectPaths(app, {"/api/billing/check": checks.direct(context, tariffs)})
