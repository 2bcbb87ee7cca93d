"""The only wiring of the payments service: what each role is made of."""

from datetime import timedelta

from fastapi import FastAPI

from services.chassis.caller import CallerVerifier
from services.chassis.clock import Clock, platform_clock, system_clock
from services.chassis.consumer_progress import ConsumerProgress
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health, health_routes
from services.chassis.jobs import RepeatedJob
from services.chassis.process import Component, Resource, run_process
from services.chassis.relay import Relay
from services.chassis.requests import install_problems
from services.chassis.return_url import ReturnOrigins
from services.payments import jobs, subscribers
from services.payments.checkouts import api as checkouts
from services.payments.checkouts.api import CheckoutContext
from services.payments.checkouts.confirm_checkout import ConfirmCheckout
from services.payments.checkouts.create_checkout import CreateCheckout
from services.payments.checkouts.open_portal import OpenPortal
from services.payments.customers.ensure_customer import EnsureCustomer
from services.payments.inbox import api as inbox
from services.payments.inbox.process_event import ProcessEvents
from services.payments.inbox.receive_event import ReceiveEvent
from services.payments.inbox.repository import delete_events
from services.payments.invoices.mirror_invoice import MirrorInvoice
from services.payments.recharges.charge_account import ChargeAccount
from services.payments.reconciliation.reconcile import Reconcile, ScheduledReconciliation
from services.payments.requests.process_requests import ProcessRequests, Work
from services.payments.requests.repository import delete_requests
from services.payments.settings import PaymentsSettings
from services.payments.stripe.gateway import StripeGateway
from services.payments.subscriptions.perform_action import PerformAction
from services.payments.subscriptions.set_quantities import SetQuantities
from services.payments.subscriptions.take_back_subscription import TAKE_BACK, TakeBackSubscription

__all__ = ["application", "serve"]

API_ROLES = ("api", "all")
FORGET_EVERY_S = 3600.0


def application(role: str = "api") -> FastAPI:
    """The application of a role with its routes; what they work with is given to it by `serve`."""
    app = FastAPI(title="Rappen payments", docs_url=None, redoc_url=None, openapi_url=None)
    install_problems(app)
    if role in API_ROLES:
        app.include_router(checkouts.api)
        app.include_router(checkouts.methods)
        app.include_router(inbox.api)
    return app


def serve(settings: PaymentsSettings, role: str) -> None:
    """Runs one role until the process is told to stop."""
    database = Database(
        settings.database_url.get_secret_value(), pool_size=settings.database_pool_size, settings=settings.database
    )
    clock = platform_clock(settings)
    health = Health()
    health.register("database", database.ping)
    faults = FaultPoints(settings.faults_folder)
    api_key = settings.stripe.api_key
    stripe = StripeGateway(
        api_key.get_secret_value() if api_key is not None else None,
        api_base=settings.stripe.api_base,
        timeout_s=settings.stripe.timeout_s,
        taken_over_at=settings.stripe.taken_over_at,
    )

    app = application(role)
    app.include_router(health_routes(health))
    resources: list[Resource] = [database, stripe]
    components: list[Component] = []
    if role in API_ROLES:
        consumer_progress = ConsumerProgress(settings.kafka, database, client_id=f"payments-{settings.instance}")
        resources.append(consumer_progress)
        _serve_routes(
            app,
            settings,
            database=database,
            stripe=stripe,
            consumer_progress=consumer_progress,
            clock=clock,
            faults=faults,
        )
    if role in ("worker", "all"):
        components += _worker(settings, database=database, stripe=stripe, clock=clock, faults=faults, health=health)
    run_process(app, http=settings.http, health=health, resources=resources, components=components)


def _worker(
    settings: PaymentsSettings,
    *,
    database: Database,
    stripe: StripeGateway,
    clock: Clock,
    faults: FaultPoints,
    health: Health,
) -> list[Component]:
    ensure_customer = EnsureCustomer(database, stripe, clock=clock, faults=faults)
    work: dict[str, Work] = {
        "stripe.requested": PerformAction(database, stripe, ensure_customer, clock=clock),
        "quantity.requested": SetQuantities(database, stripe, clock=clock),
        "invoice.issued": MirrorInvoice(database, stripe, ensure_customer, clock=clock),
        TAKE_BACK: TakeBackSubscription(database, stripe),
        "recharge.requested": ChargeAccount(database, stripe, pages=settings.confirmation_pages, clock=clock),
    }
    events = ProcessEvents(database, stripe, clock=clock, faults=faults)
    asked = ProcessRequests(database, work, clock=clock, faults=faults)
    consumers = subscribers.build(settings, database=database, clock=clock, faults=faults, health=health)
    relay = Relay.of_service("payments", settings, database, clock=clock)
    inbox = jobs.inbox(database, events, clock=clock)
    reconciliation = ScheduledReconciliation(
        Reconcile(database, stripe, clock=clock), apply=settings.reconcile_apply, clock=clock
    )
    scheduled = RepeatedJob("reconciliation", reconciliation, every_s=settings.reconcile_interval_s, clock=clock)
    forget_events = jobs.Forgetting(
        database, delete_events, keep=timedelta(days=settings.keep_events_days), clock=clock
    )
    forget_requests = jobs.Forgetting(
        database, delete_requests, keep=timedelta(days=settings.keep_requests_days), clock=clock
    )
    return [
        *consumers,
        inbox,
        jobs.requests(database, asked, clock=clock),
        scheduled,
        RepeatedJob("forget events", forget_events, every_s=FORGET_EVERY_S, clock=clock),
        RepeatedJob("forget requests", forget_requests, every_s=FORGET_EVERY_S, clock=clock),
        relay,
    ]


def _serve_routes(
    app: FastAPI,
    settings: PaymentsSettings,
    *,
    database: Database,
    stripe: StripeGateway,
    consumer_progress: ConsumerProgress,
    clock: Clock,
    faults: FaultPoints,
) -> None:
    origins = ReturnOrigins(settings.return_origins, settings.loopback_origins)
    ensure_customer = EnsureCustomer(database, stripe, clock=clock, faults=faults)
    create = CreateCheckout(
        database,
        stripe,
        amounts=settings.top_up_amounts,
        return_origins=origins,
        marks=settings.return_marks,
        ensure_customer=ensure_customer,
        clock=clock,
        faults=faults,
    )
    confirm = ConfirmCheckout(database, stripe, consumer_progress, clock=clock, faults=faults)
    open_portal = OpenPortal(stripe, ensure_customer, return_origins=origins)
    receive = ReceiveEvent(
        database,
        secrets=[secret.get_secret_value() for secret in settings.stripe.webhook_secrets],
        livemode=settings.livemode,
        clock=clock,
        wall_clock=system_clock,
    )
    app.state.caller = CallerVerifier(audience="payments", secret=settings.internal_secret.get_secret_value())
    app.state.checkouts = CheckoutContext(create, confirm, open_portal, settings.top_up_amounts)
    app.state.receive_event = receive
