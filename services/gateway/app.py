"""The only wiring of the gateway: what each role is made of."""

import time
from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import ASGIApp

from services.chassis.clock import Clock, platform_clock, system_clock
from services.chassis.consumer_progress import ConsumerProgress
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health, health_routes
from services.chassis.process import Component, Resource, Site, run_process
from services.chassis.relay import Relay
from services.chassis.requests import REQUEST_ID_HEADER, Direct, DirectPaths, install_problems
from services.gateway import subscribers
from services.gateway.access.identity import DevelopmentKey, IssuerClient, RemoteKeySet, TokenVerifier, TrustedIssuer
from services.gateway.access.scope import ScopeReader
from services.gateway.access.windows import OwnWindows, SharedWindows
from services.gateway.api import own_routes
from services.gateway.directory.changes import Directory
from services.gateway.directory.domain.roles import RoleNames
from services.gateway.directory.member_limits import MemberLimits
from services.gateway.edge.admission import RATE_LIMIT_HEADERS, Admission, RateLimits
from services.gateway.edge.connections import BoundedHttp, HttpClient
from services.gateway.edge.cors import Cors
from services.gateway.edge.document import build_document
from services.gateway.edge.errors import IDEMPOTENCY_KEY_HEADER
from services.gateway.edge.forwarding import ServiceClient, forwarded_operations
from services.gateway.edge.operations import SERVICES, operations_of, read_document
from services.gateway.edge.routing import in_order
from services.gateway.edge.well_known import well_known_routes
from services.gateway.feed.api import Stream
from services.gateway.feed.live_feed import LiveFeed
from services.gateway.settings import GatewaySettings
from services.gateway.usage.publisher import UsagePublisher
from services.gateway.usage.record_usage import UsageRecorder

__all__ = ["serve"]

# Longer than its patience with a service, so that it can still say what it knows of a change.
ANSWER_S = 14.0
METHODS = ("GET", "POST", "PUT", "DELETE")
REQUEST_HEADERS = ("Authorization", "Content-Type", "Accept-Language", IDEMPOTENCY_KEY_HEADER, "Last-Event-ID")
EXPOSED_HEADERS = ("Retry-After", REQUEST_ID_HEADER, *RATE_LIMIT_HEADERS, IDEMPOTENCY_KEY_HEADER, "WWW-Authenticate")


def serve(settings: GatewaySettings, role: str) -> None:
    """Runs one role until the process is told to stop."""
    database = Database(
        settings.database_url.get_secret_value(), pool_size=settings.database_pool_size, settings=settings.database
    )
    clock = platform_clock(settings)
    health = Health()
    health.register("database", database.ping)

    # Health and metrics are for the operator, so they are not on the public port.
    internal = _empty("Rappen gateway")
    internal.include_router(health_routes(health))
    install_problems(internal)
    resources: list[Resource] = [database]
    components: list[Component] = []
    public: Site | None = None
    if role in ("api", "all"):
        app = _empty("Rappen")
        feed = LiveFeed(
            settings.kafka,
            client_id=f"gateway-feed-{settings.instance}",
            streams_max=settings.streams_max,
            clock=clock,
        )
        components.append(feed)
        needed, forwarded = _add_api(app, settings, database, clock, feed)
        resources += needed
        install_problems(app, answer_s=ANSWER_S)
        public = Site(_edge(app, forwarded, settings), settings.http, BoundedHttp)
    if role in ("worker", "all"):
        components.append(Relay.of_service("gateway", settings, database, clock=clock))
        faults = FaultPoints(settings.faults_folder)
        components += subscribers.build(settings, database=database, clock=clock, faults=faults, health=health)
    run_process(
        internal, http=settings.internal_http, health=health, resources=resources, components=components, public=public
    )


def _empty(title: str) -> FastAPI:
    """An application without routes; unknown paths are 404, with and without a trailing slash."""
    return FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)


def _add_api(
    app: FastAPI, settings: GatewaySettings, database: Database, clock: Clock, feed: LiveFeed
) -> tuple[list[Resource], list[Direct]]:
    """Adds the operations that the gateway answers itself; gives what they need, and those that services answer."""
    urls = (settings.billing_url, settings.payments_url, settings.subscriptions_url)
    peers = {name: HttpClient(url) for name, url in zip(SERVICES, urls, strict=True)}
    issuer = IssuerClient()
    consumer_progress = ConsumerProgress(settings.kafka, database, client_id=f"gateway-{settings.instance}")
    publisher = UsagePublisher(
        settings.kafka, client_id=f"gateway-usage-{settings.instance}", in_flight_max=settings.usage_in_flight_max
    )
    trusted, development_key = _issuers(settings, issuer)
    app.state.admission = admission = Admission(
        tokens=TokenVerifier(trusted),
        limits=RateLimits(
            settings.rate_limits, SharedWindows(database) if settings.rate_limits.shared else OwnWindows()
        ),
        scopes=ScopeReader(database, context_header=settings.context_header),
    )
    app.state.stream = Stream(feed, admission, settings.stream_renewal_s)
    app.state.usage = UsageRecorder(publisher, now=clock)
    documents = {name: read_document(name) for name in (*SERVICES, "gateway")}
    described = {name: operations_of(documents[name]) for name in SERVICES}
    secret = settings.internal_secret.get_secret_value()
    # Callers' contexts live a minute of the machine's time.
    clients = {name: ServiceClient(http, name=name, secret=secret, clock=system_clock) for name, http in peers.items()}
    app.state.directory = Directory(
        database=database,
        consumer_progress=consumer_progress,
        clock=clock,
        roles=RoleNames(settings.member_roles, settings.access_roles),
        page_size_max=settings.page_size_max,
        member_limits=MemberLimits(clients["subscriptions"]),
    )
    forwarded = forwarded_operations(described, clients, admission)
    app.router.routes.extend(in_order(own_routes(), forwarded))
    document = build_document(documents.values(), version=version("rappen"), context_header=settings.context_header)
    app.include_router(well_known_routes(document, development_key))
    return [*peers.values(), issuer, consumer_progress, publisher], forwarded


def _edge(app: FastAPI, forwarded: list[Direct], settings: GatewaySettings) -> ASGIApp:
    """The application behind what every answer passes, also that of a request that failed unexpectedly, from the inside
    out."""
    return Cors(
        DirectPaths(app, forwarded, answer_s=ANSWER_S),
        origins=settings.frontend_origins,
        loopback=settings.loopback_origins,
        methods=METHODS,
        headers=(*REQUEST_HEADERS, settings.context_header),
        exposed=EXPOSED_HEADERS,
    )


def _issuers(settings: GatewaySettings, http: IssuerClient) -> tuple[list[TrustedIssuer], dict[str, object] | None]:
    """The issuers whose tokens count, and the public key of the development stack's own."""
    trusted: list[TrustedIssuer] = []
    development_key = None
    if settings.oidc is not None:
        keys = RemoteKeySet(
            http.client, issuer=settings.oidc.issuer, jwks_url=settings.oidc.jwks_url, monotonic=time.monotonic
        )
        oidc = settings.oidc
        trusted.append(TrustedIssuer(oidc.issuer, oidc.audience, oidc.algorithms, keys))
    if settings.dev_issuer is not None:
        own = DevelopmentKey(settings.dev_issuer.private_key_file)
        trusted.append(TrustedIssuer(settings.dev_issuer.issuer, settings.dev_issuer.audience, ("ES256",), own))
        development_key = own.public
    if not trusted:
        raise ValueError("GATEWAY_OIDC__ISSUER is needed: without it nobody could sign in")
    return trusted, development_key
