"""The only wiring of the subscriptions service: what each role is made of."""

import sys

from fastapi import FastAPI

from services.chassis.caller import CallerVerifier
from services.chassis.clock import Clock, platform_clock
from services.chassis.consumer_progress import ConsumerProgress
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health, health_routes
from services.chassis.process import Component, Resource, run_process
from services.chassis.relay import Relay
from services.chassis.requests import install_problems
from services.chassis.return_url import ReturnOrigins
from services.subscriptions import api, jobs, subscribers
from services.subscriptions.catalogue_files import CatalogueInvalid
from services.subscriptions.lifecycle.api import LifecycleContext
from services.subscriptions.lifecycle.change_end import ChangeEnd
from services.subscriptions.lifecycle.start_checkout import StartCheckout
from services.subscriptions.plans.catalogue import Catalogue, read_catalogue
from services.subscriptions.settings import SubscriptionsSettings
from services.subscriptions.store.activate_feature import ActivateFeature
from services.subscriptions.store.api import StoreContext
from services.subscriptions.store.catalogue import Features, read_features
from services.subscriptions.store.create_personal_mandate import OfferedMandates
from services.subscriptions.store.deactivate_feature import DeactivateFeature

__all__ = ["application", "lifecycle_context", "serve", "store_context"]

API_ROLES = ("api", "all")
PATH_PREFIX: str = SubscriptionsSettings.model_fields["path_prefix"].default


def application(role: str = "api", *, path_prefix: str = PATH_PREFIX) -> FastAPI:
    """The application of a role with its routes; `serve` puts the objects that they use into its state."""
    app = FastAPI(title="Rappen subscriptions", docs_url=None, redoc_url=None, openapi_url=None)
    install_problems(app)
    if role in API_ROLES:
        app.include_router(api.routes(path_prefix))
    return app


def serve(settings: SubscriptionsSettings, role: str) -> None:
    """Runs one role until the process is told to stop."""
    try:
        catalogue = read_catalogue(settings.plans_file)
    except CatalogueInvalid as error:
        sys.exit(f"SUBSCRIPTIONS_PLANS_FILE: {error}")
    try:
        features = read_features(settings.features_file)
    except CatalogueInvalid as error:
        sys.exit(f"SUBSCRIPTIONS_FEATURES_FILE: {error}")
    if not catalogue.has_trial(settings.personal_plan):
        sys.exit(f"SUBSCRIPTIONS_PERSONAL_PLAN: {settings.personal_plan} is no trial of the catalogue")
    database = Database(
        settings.database_url.get_secret_value(), pool_size=settings.database_pool_size, settings=settings.database
    )
    clock = platform_clock(settings)
    health = Health()
    health.register("database", database.ping)

    app = application(role, path_prefix=settings.path_prefix)
    app.include_router(health_routes(health))
    resources: list[Resource] = [database]
    components: list[Component] = []
    if role in API_ROLES:
        consumer_progress = ConsumerProgress(settings.kafka, database, client_id=f"subscriptions-{settings.instance}")
        resources.append(consumer_progress)
        app.state.caller = CallerVerifier(audience="subscriptions", secret=settings.internal_secret.get_secret_value())
        app.state.catalogue = catalogue
        app.state.lifecycle = lifecycle_context(settings, database, catalogue, consumer_progress, clock)
        app.state.store = store_context(settings, database, catalogue, features, clock)
    if role in ("worker", "all"):
        components += _worker(settings, database, catalogue, clock, health)
    run_process(app, http=settings.http, health=health, resources=resources, components=components)


def store_context(
    settings: SubscriptionsSettings, database: Database, catalogue: Catalogue, features: Features, clock: Clock
) -> StoreContext:
    """What the routes of the store use."""
    faults = FaultPoints(settings.faults_folder)
    wait_s = settings.directory_wait_s
    return StoreContext(
        database,
        features,
        OfferedMandates(database, catalogue.plan(settings.personal_plan), clock=clock, faults=faults, wait_s=wait_s),
        ActivateFeature(database, features, clock=clock, faults=faults, wait_s=settings.activation_wait_s),
        DeactivateFeature(database, clock=clock, faults=faults, wait_s=wait_s),
        settings.store_state_names,
        clock,
    )


def lifecycle_context(
    settings: SubscriptionsSettings,
    database: Database,
    catalogue: Catalogue,
    consumer_progress: ConsumerProgress,
    clock: Clock,
) -> LifecycleContext:
    """What the routes of a mandate's subscription work with."""
    start_checkout = StartCheckout(
        database,
        return_origins=ReturnOrigins(settings.return_origins, settings.loopback_origins),
        marks=settings.return_marks,
        wait_s=settings.checkout_wait_s,
        clock=clock,
        faults=FaultPoints(settings.faults_folder),
    )
    change_end = ChangeEnd(database, wait_s=settings.checkout_wait_s, clock=clock)
    return LifecycleContext(database, catalogue, consumer_progress, clock, start_checkout, change_end)


def _worker(
    settings: SubscriptionsSettings, database: Database, catalogue: Catalogue, clock: Clock, health: Health
) -> list[Component]:
    faults = FaultPoints(settings.faults_folder)
    relay = Relay.of_service("subscriptions", settings, database, clock=clock)
    consumers = subscribers.build(
        settings, database=database, catalogue=catalogue, clock=clock, faults=faults, health=health
    )
    return [
        *consumers,
        relay,
        *jobs.build(settings, database=database, catalogue=catalogue, clock=clock, faults=faults),
    ]
