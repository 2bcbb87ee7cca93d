"""The only wiring of the gateway: what each role is made of."""

import time
from dataclasses import dataclass
from importlib.metadata import version

from fastapi import FastAPI

from services.chassis.clock import system_clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.health import Health, health_routes
from services.chassis.problems import REQUEST_ID_HEADER, install_problems
from services.chassis.process import Part, Resource, Site, run_process
from services.chassis.readers import Readers
from services.chassis.relay import Relay
from services.gateway.api.billing import add_billing
from services.gateway.api.directory import add_directory
from services.gateway.api.invitations import add_invitations
from services.gateway.api.operations import Gate, Surface
from services.gateway.api.payments import add_payments
from services.gateway.api.subscriptions import add_subscriptions
from services.gateway.api.usage import add_usage
from services.gateway.api.well_known import well_known_routes
from services.gateway.clients import HttpClient, ServiceClient
from services.gateway.connections import BoundedHttp
from services.gateway.cors import Cors
from services.gateway.domain.roles import RoleNames
from services.gateway.errors import IDEMPOTENCY_KEY_HEADER
from services.gateway.identity import TokenVerifier, TrustedIssuer
from services.gateway.key_sets import DevelopmentKey, RemoteKeySet
from services.gateway.limits import RATE_LIMIT_HEADERS, RateLimitHeaders, RateLimits
from services.gateway.openapi import build_document
from services.gateway.scope import ScopeReader
from services.gateway.settings import GatewaySettings
from services.gateway.usage_publisher import UsagePublisher

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
    health = Health()
    health.register("database", database.ping)

    # Health and metrics are for whoever runs the gateway, so they are nowhere on the public port.
    internal = _empty("Rappen gateway")
    internal.include_router(health_routes(health))
    install_problems(internal)
    resources: list[Resource] = [database]
    parts: list[Part] = []
    public: Site | None = None
    if role in ("api", "all"):
        app = _empty("Rappen")
        resources += _add_api(app, settings, database)
        install_problems(app, answer_s=ANSWER_S)
        _add_edge(app, settings)
        public = Site(app, settings.http, BoundedHttp)
    if role in ("worker", "all"):
        parts.append(_relay(settings, database))
    run_process(internal, http=settings.internal_http, health=health, resources=resources, parts=parts, public=public)


def _empty(title: str) -> FastAPI:
    """An application without a path; one that is not ours stays 404, with and without a slash at its end."""
    return FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)


def _add_api(app: FastAPI, settings: GatewaySettings, database: Database) -> list[Resource]:
    peers = {name: HttpClient() for name in ("billing", "payments", "subscriptions", "issuer")}
    readers = Readers(settings.kafka, database, client_id=f"gateway-{settings.instance}")
    publisher = UsagePublisher(
        settings.kafka, client_id=f"gateway-usage-{settings.instance}", in_flight_max=settings.usage_in_flight_max
    )
    issuers = _issuers(settings, peers["issuer"])
    gate = Gate(
        tokens=TokenVerifier(issuers.trusted),
        limits=RateLimits(settings.rate_limits),
        scopes=ScopeReader(database, context_header=settings.context_header),
    )
    surface = Surface(gate)
    billing, payments, subscriptions = (
        ServiceClient(
            peers[name].client,
            name=name,
            url=url,
            secret=settings.internal_secret.get_secret_value(),
            clock=system_clock,
        )
        for name, url in (
            ("billing", settings.billing_url),
            ("payments", settings.payments_url),
            ("subscriptions", settings.subscriptions_url),
        )
    )
    add_billing(surface, billing)
    add_payments(surface, payments=payments, billing=billing)
    add_subscriptions(surface, subscriptions)
    add_usage(surface, publisher=publisher, clock=system_clock)
    add_directory(
        surface,
        database=database,
        readers=readers,
        clock=system_clock,
        page_size_max=settings.page_size_max,
        roles=RoleNames(settings.member_roles, settings.access_roles),
    )
    add_invitations(surface, database=database, readers=readers, clock=system_clock)
    app.include_router(surface.router())
    document = build_document(surface.operations, version=version("rappen"), context_header=settings.context_header)
    app.include_router(well_known_routes(document, issuers.development_key))
    return [*peers.values(), readers, publisher]


def _relay(settings: GatewaySettings, database: Database) -> Relay:
    return Relay(
        database,
        settings.kafka,
        client_id=f"gateway-relay-{settings.instance}",
        source="/rappen/gateway",
        clock=system_clock,
        faults=FaultPoints(settings.faults_folder),
    )


def _add_edge(app: FastAPI, settings: GatewaySettings) -> None:
    """What is on every answer, also on those to requests that failed unexpectedly; the last one added is outermost."""
    app.add_middleware(RateLimitHeaders)
    app.add_middleware(
        Cors,
        origins=settings.frontend_origins,
        loopback=settings.loopback_origins,
        methods=METHODS,
        headers=(*REQUEST_HEADERS, settings.context_header),
        exposed=EXPOSED_HEADERS,
    )


@dataclass(frozen=True, slots=True)
class _Issuers:
    trusted: list[TrustedIssuer]
    development_key: dict[str, object] | None


def _issuers(settings: GatewaySettings, http: HttpClient) -> _Issuers:
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
    return _Issuers(trusted, development_key)
