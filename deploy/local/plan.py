"""What a stack consists of: the list of its processes, and how each is started."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx

from deploy.local.environment import Addresses, Environments, url
from deploy.local.errors import StackError
from deploy.local.health import http_started
from deploy.local.home import Home
from deploy.local.identity import Identity, Ports
from deploy.local.kafka import LocalKafka, kafka_answers
from deploy.local.postgres import LocalPostgres, postgres_answers
from deploy.local.server import LocalServer
from deploy.local.supervisor import ProcessSpec

# What --port may name beside the processes: what one of them listens on in addition, and the supervisor.
_FURTHER_PORTS = frozenset({"smtp", "kafka-controller", "supervisor", "gateway-internal"})

# The order of stopping, the highest first: a process stops before those that it writes to.
TIER_POSTGRES, TIER_KAFKA, TIER_HELPERS, TIER_SERVICES = range(4)

_INFRASTRUCTURE_GRACE_S = 30.0
_HELPERS_GRACE_S = 10.0
_SERVICES_GRACE_S = 40.0


@dataclass(frozen=True)
class Options:
    """What `rappen up` was asked for."""

    empty: bool = False
    workers: int = 2
    gateways: int = 1
    rate_limits: bool = True
    ports: dict[str, int] = field(default_factory=dict)
    frontend_origins: tuple[str, ...] = ()


class Plan:
    """The processes of one stack. Nothing runs yet; making the plan only chooses ports."""

    def __init__(self, home: Home, options: Options, identity: Identity, client: httpx.AsyncClient) -> None:
        self._home = home
        self.identity = identity
        self._client = client
        self._workers = options.workers
        self._gateways = options.gateways
        ports = Ports(home, options.ports)
        self._ports = ports
        self.health_port = ports.of("supervisor")
        self._postgres = _postgres(home, ports)
        self._kafka = _kafka(home, ports)
        self.addresses = Addresses(
            kafka=self._kafka.bootstrap_servers if self._kafka else _given_kafka(),
            postgres_admin=self._postgres.admin_dsn if self._postgres else os.environ["RAPPEN_POSTGRES_ADMIN"],
            stripe_port=ports.of("fakestripe"),
            mail_port=ports.of("mail"),
            smtp_port=ports.of("smtp"),
            billing_port=ports.of("billing-api"),
            payments_port=ports.of("payments"),
            subscriptions_port=ports.of("subscriptions"),
            gateway_port=ports.of("gateway"),
            gateway_internal_port=ports.of("gateway-internal"),
        )
        self.environments = Environments(
            self.addresses,
            identity,
            home.clock_file,
            frontend_origins=options.frontend_origins,
            rate_limits=options.rate_limits,
            gateways=options.gateways,
        )
        self.infrastructure = self._infrastructure()
        self.helpers = self._helpers()
        self.services = self._services()
        # A further gateway has a name, and no port of its own.
        known = {spec.name for spec in self.all if options.ports.get(spec.name) in (None, spec.port)}
        unknown = set(options.ports) - known - _FURTHER_PORTS
        if unknown:
            names = sorted({spec.name for spec in self.all} | _FURTHER_PORTS)
            raise StackError(
                f"--port names no process of the stack: {', '.join(sorted(unknown))}; there are {', '.join(names)}"
            )

    @property
    def all(self) -> list[ProcessSpec]:
        """Every process."""
        return [*self.infrastructure, *self.helpers, *self.services]

    async def kafka_ready(self) -> bool:
        """Say whether the broker answers, be it ours or a given one."""
        return await kafka_answers(self.addresses.kafka)

    async def postgres_ready(self) -> bool:
        """Say whether the database server answers, be it ours or a given one."""
        return await postgres_answers(self.addresses.postgres_admin)

    def _infrastructure(self) -> list[ProcessSpec]:
        servers: list[tuple[LocalServer | None, str, Callable[[], Awaitable[bool]], int]] = [
            (self._postgres, "database", self.postgres_ready, TIER_POSTGRES),
            (self._kafka, "broker", self.kafka_ready, TIER_KAFKA),
        ]
        return [
            ProcessSpec(
                name=server.name,
                role=role,
                port=server.port,
                health=f"{url(self.health_port)}/{server.name}/readyz",
                command=server.command,
                prepare=server.prepare,
                ready=ready,
                cwd=server.folder,
                log=server.log,
                tier=tier,
                stop_signal=server.stop_signal,
                grace_s=_INFRASTRUCTURE_GRACE_S,
            )
            for server, role, ready, tier in servers
            if server is not None
        ]

    def _helpers(self) -> list[ProcessSpec]:
        stripe, mail, smtp = self.addresses.stripe_port, self.addresses.mail_port, self.addresses.smtp_port
        stripe_options = {
            "--port": str(stripe),
            "--webhook-url": self.addresses.payments_webhook,
            "--webhook-secret": self.identity.webhook_secret,
            "--state-file": str(self._home.data / "fakestripe.json"),
        }
        mail_options = {"--smtp-port": str(smtp), "--http-port": str(mail)}
        return [
            self._python(
                name,
                name,
                port,
                [module, *(word for option in options.items() for word in option)],
                tier=TIER_HELPERS,
                grace_s=_HELPERS_GRACE_S,
            )
            for name, port, module, options in (
                ("fakestripe", stripe, "deploy.fakestripe", stripe_options),
                ("mail", mail, "deploy.local.mail", mail_options),
            )
        ]

    def _services(self) -> list[ProcessSpec]:
        instances = [
            ("billing-api", "billing", "api"),
            *((f"billing-worker-{number}", "billing", "worker") for number in range(1, self._workers + 1)),
            ("payments", "payments", "all"),
            ("subscriptions", "subscriptions", "all"),
        ]
        return [
            *(
                self._python(
                    name,
                    role,
                    self._ports.of(name),
                    [f"services.{service}", role],
                    environment=self.environments.of(service, instance=name, port=self._ports.of(name)),
                    tier=TIER_SERVICES,
                    grace_s=_SERVICES_GRACE_S,
                )
                for name, service, role in instances
            ),
            *(self._gateway(number) for number in range(1, self._gateways + 1)),
        ]

    def _gateway(self, number: int) -> ProcessSpec:
        """The gateway, or one more on the same port. The port is public and has no health address: each has one of its
        own for that."""
        name = "gateway" if number == 1 else f"gateway-{number}"
        health_port = self._ports.of("gateway-internal" if number == 1 else f"{name}-internal")
        environment = self.environments.of("gateway", instance=name, port=self.addresses.gateway_port)
        return self._python(
            name,
            "all",
            self.addresses.gateway_port,
            ["services.gateway", "all"],
            environment={**environment, "GATEWAY_INTERNAL_HTTP__PORT": str(health_port)},
            health_port=health_port,
            tier=TIER_SERVICES,
            grace_s=_SERVICES_GRACE_S,
        )

    def _python(
        self,
        name: str,
        role: str,
        port: int,
        arguments: list[str],
        *,
        tier: int,
        grace_s: float,
        environment: dict[str, str] | None = None,
        health_port: int | None = None,
    ) -> ProcessSpec:
        health = f"{url(health_port or port)}/readyz"
        return ProcessSpec(
            name=name,
            role=role,
            port=port,
            health=health,
            command=lambda: [sys.executable, "-m", *arguments],
            ready=lambda: http_started(self._client, health),
            cwd=self._home.root,
            log=self._home.log_of(name),
            environment=environment or {},
            tier=tier,
            grace_s=grace_s,
        )


def _given_kafka() -> str:
    address = os.environ["RAPPEN_KAFKA"]
    if not re.fullmatch(r"[^:,\s]+:\d+(,[^:,\s]+:\d+)*", address, re.ASCII):
        raise StackError(f"RAPPEN_KAFKA is not host:port: {address}")
    return address


def _postgres(home: Home, ports: Ports) -> LocalPostgres | None:
    if os.environ.get("RAPPEN_POSTGRES_ADMIN"):
        return None
    return LocalPostgres(home.data / "postgres", port=ports.of("postgres"), log=home.log_of("postgres"))


def _kafka(home: Home, ports: Ports) -> LocalKafka | None:
    if os.environ.get("RAPPEN_KAFKA"):
        return None
    return LocalKafka(
        home.data / "kafka",
        port=ports.of("kafka"),
        controller_port=ports.of("kafka-controller"),
        log=home.log_of("kafka"),
    )
