"""The only wiring of the billing service: what each role is made of."""

import os

from fastapi import FastAPI
from starlette.types import ASGIApp

from services.billing import api, jobs, subscribers
from services.billing.ledger.low_balances import MAIL_INTERVAL_SETTING
from services.billing.ledger.publications import UnpublishedBalances
from services.billing.settings import BillingSettings
from services.chassis.caller import CallerVerifier
from services.chassis.clock import Clock, platform_clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health, health_routes
from services.chassis.process import Component, run_process
from services.chassis.relay import Relay
from services.chassis.requests import install_problems

__all__ = ["application", "serve"]

API_ROLES = ("api", "all")

BALANCES_GATHER_S = 1.0
WORKER_NICENESS = 5


def application(role: str = "api") -> FastAPI:
    """The application of a role with its routes; `serve` puts the objects that they use into its state."""
    app = FastAPI(title="Rappen billing", docs_url=None, redoc_url=None, openapi_url=None)
    install_problems(app)
    if role in API_ROLES:
        api.add_routes(app)
    return app


def serve(settings: BillingSettings, role: str) -> None:
    """Runs one role until the process is told to stop."""
    database = Database(
        settings.database_url.get_secret_value(),
        pool_size=settings.database_pool_size,
        settings=settings.database,
        generic_plans=True,
        session={MAIL_INTERVAL_SETTING: str(settings.warning_mail_interval_s)},
    )
    clock = platform_clock(settings)
    health = Health()
    health.register("database", database.ping)

    app = application(role)
    app.include_router(health_routes(health))
    served: ASGIApp = app
    components: list[Component] = []
    faults = FaultPoints(settings.faults_folder)
    if role in API_ROLES:
        caller = CallerVerifier(audience="billing", secret=settings.internal_secret.get_secret_value())
        served = api.serve_routes(app, settings, database=database, caller=caller, clock=clock, faults=faults)
    if role in ("worker", "all"):
        components += _worker(settings, database, clock, health, faults)
    if role == "worker":
        # Where both run on one machine, a batch must not make the checks of the api role wait for a core.
        os.nice(WORKER_NICENESS)
    run_process(
        served,
        http=settings.http,
        health=health,
        resources=[database],
        components=components,
        large_batches=role != "api",
    )


def _worker(
    settings: BillingSettings, database: Database, clock: Clock, health: Health, faults: FaultPoints
) -> list[Component]:
    relay = Relay(
        database,
        settings.kafka,
        client_id=f"billing-relay-{settings.instance}",
        source="/rappen/billing",
        clock=clock,
        faults=faults,
        states=UnpublishedBalances(clock),
        # Of balances only the newest counts: the longer they gather, the fewer have to travel.
        idle_s=BALANCES_GATHER_S,
    )
    consumers = subscribers.build(settings, database=database, clock=clock, faults=faults, health=health)
    return [*consumers, relay, *jobs.build(settings, database=database, clock=clock, faults=faults)]
