"""Billing's HTTP routes: operations of callers, whose context the gateway signs, and internal requests of the
gateway."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from services.billing.checks import api as checks
from services.billing.checks import api_holds as holds
from services.billing.checks import api_limits as limits
from services.billing.checks.authorize_holds import AuthorizeHolds
from services.billing.checks.capture_holds import CaptureHolds
from services.billing.checks.check_funds import CheckFunds
from services.billing.checks.together import Together
from services.billing.corrections import api as corrections
from services.billing.credits import api as accounts
from services.billing.http import ApiContext
from services.billing.invoices import api as invoices
from services.billing.invoices.give_document import Printer
from services.billing.invoices.postpay_spans import PostpaySpans
from services.billing.mandates import api as mandates
from services.billing.pricing import api as pricing
from services.billing.pricing.repository import Tariffs
from services.billing.reports import api as reports
from services.billing.reports import api_lists as lists
from services.billing.reports.export_movements import RunningExports
from services.billing.settings import BillingSettings
from services.billing.statistics import api as statistics
from services.chassis.caller import CallerVerifier
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.requests import Direct, DirectPaths

__all__ = ["add_routes", "serve_routes"]


def add_routes(app: FastAPI) -> None:
    """Adds every route. The objects that they use are put into the application's state when it is served."""
    for part in (checks, holds, limits, reports, lists, statistics, mandates, accounts, corrections, pricing, invoices):
        app.include_router(part.api)


def serve_routes(
    app: FastAPI,
    settings: BillingSettings,
    *,
    database: Database,
    caller: CallerVerifier,
    clock: Clock,
    faults: FaultPoints,
) -> ASGIApp:
    """The application behind the direct paths, with the objects that its routes use in its state."""
    tariffs = Tariffs()
    check_funds = CheckFunds(database, tariffs, settings, clock)
    markup = settings.default_markup_percent
    app.state.caller = caller
    app.state.context = ApiContext(settings, database, clock)
    app.state.tariffs = tariffs
    app.state.exports = RunningExports(settings.exports_max)
    app.state.postpay_spans = PostpaySpans(settings.invoicing)
    app.state.printer = Printer()
    together = Together()
    authorize = AuthorizeHolds(database, together, check_funds, tariffs, clock=clock, faults=faults)
    capture = CaptureHolds(database, together, default_markup=markup, clock=clock, faults=faults)
    app.state.holds = holds.HoldHandlers(caller, authorize, capture, clock=clock)
    app.state.check = checks.check_handler(caller, check_funds)

    return DirectPaths(app, [Direct("POST", checks.PATH, app.state.check), *app.state.holds.direct()])
