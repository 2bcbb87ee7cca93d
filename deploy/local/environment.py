"""The environment of each service of a local stack: the one file that decides its settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from deploy.local.identity import ISSUER, Identity
from deploy.local.ports import LOOPBACK
from deploy.postgres.bootstrap import database_dsn

# Payments serves Stripe's webhook under the same path as the gateway passes it through.
WEBHOOK_PATH = "/api/billing/webhook/stripe"


@dataclass(frozen=True)
class Addresses:
    """Where everything of a stack is reached."""

    kafka: str
    postgres_admin: str
    stripe_port: int
    mail_port: int
    smtp_port: int
    billing_port: int
    payments_port: int
    subscriptions_port: int
    gateway_port: int
    gateway_internal_port: int

    @property
    def stripe(self) -> str:
        """The fake Stripe."""
        return url(self.stripe_port)

    @property
    def mail(self) -> str:
        """The page and API of the mail catcher."""
        return url(self.mail_port)

    @property
    def billing(self) -> str:
        """The billing api."""
        return url(self.billing_port)

    @property
    def payments(self) -> str:
        """The payments api."""
        return url(self.payments_port)

    @property
    def payments_webhook(self) -> str:
        """Where Stripe delivers events."""
        return f"{url(self.payments_port)}{WEBHOOK_PATH}"

    @property
    def subscriptions(self) -> str:
        """The subscriptions api."""
        return url(self.subscriptions_port)

    @property
    def gateway(self) -> str:
        """The public surface."""
        return url(self.gateway_port)

    def api_port(self, service: str) -> int:
        """Give the port of a service's api."""
        return {
            "billing": self.billing_port,
            "payments": self.payments_port,
            "subscriptions": self.subscriptions_port,
            "gateway": self.gateway_port,
        }[service]


@dataclass(frozen=True)
class Environments:
    """Makes the environments of one stack's services."""

    addresses: Addresses
    identity: Identity
    clock_file: Path
    frontend_origins: tuple[str, ...] = ()
    rate_limits: bool = True
    gateways: int = 1

    def of(self, service: str, *, instance: str, port: int) -> dict[str, str]:
        """Give the environment of one process of a service."""
        common = {
            "ENVIRONMENT": "development",
            "DATABASE_URL": self.app_dsn(service),
            "KAFKA__BOOTSTRAP_SERVERS": self.addresses.kafka,
            "HTTP__HOST": LOOPBACK,
            "HTTP__PORT": str(port),
            "INTERNAL_SECRET": self.identity.internal_secret,
            "INSTANCE": instance,
            "CLOCK_FILE": str(self.clock_file),
        }
        own = {
            "gateway": self._gateway,
            "payments": self._payments,
            "subscriptions": self._return_origins,
        }.get(service, dict[str, str])()
        return {f"{service.upper()}_{key}": value for key, value in {**common, **own}.items()}

    def for_command(self, service: str) -> dict[str, str]:
        """Give the environment of an operator's command of a service, which serves nothing itself."""
        return self.of(service, instance=f"{service}-operator", port=self.addresses.api_port(service))

    def for_migration(self, service: str) -> dict[str, str]:
        """Give what a migration needs on top: the role that owns the schema."""
        password = self.identity.passwords[service].owner
        owner = database_dsn(self.addresses.postgres_admin, f"{service}_owner", password)
        return {f"{service.upper()}_DATABASE_OWNER_URL": owner}

    def app_dsn(self, service: str) -> str:
        """Give the DSN of a service's application role."""
        password = self.identity.passwords[service].app
        return database_dsn(self.addresses.postgres_admin, f"{service}_app", password)

    def _gateway(self) -> dict[str, str]:
        return {
            "INTERNAL_HTTP__HOST": LOOPBACK,
            "INTERNAL_HTTP__PORT": str(self.addresses.gateway_internal_port),
            "BILLING_URL": self.addresses.billing,
            "PAYMENTS_URL": self.addresses.payments,
            "SUBSCRIPTIONS_URL": self.addresses.subscriptions,
            "DEV_ISSUER__ISSUER": ISSUER,
            "DEV_ISSUER__PRIVATE_KEY_FILE": str(self.identity.issuer_key_file),
            "RATE_LIMITS__ENABLED": "true" if self.rate_limits else "false",
            **({"HTTP__SHARED": "true", "RATE_LIMITS__SHARED": "true"} if self.gateways > 1 else {}),
            "FRONTEND_ORIGINS": json.dumps(self.frontend_origins),
            "LOOPBACK_ORIGINS": "true",
            "MAIL__HOST": LOOPBACK,
            "MAIL__PORT": str(self.addresses.smtp_port),
        }

    def _payments(self) -> dict[str, str]:
        return {
            "STRIPE__API_KEY": self.identity.stripe_api_key,
            "STRIPE__API_BASE": self.addresses.stripe,
            "STRIPE__WEBHOOK_SECRETS": json.dumps([self.identity.webhook_secret]),
            **self._return_origins(),
        }

    def _return_origins(self) -> dict[str, str]:
        return {
            "RETURN_ORIGINS": json.dumps(self.frontend_origins),
            # The frontend that is being developed on this machine, and the pages of the stack itself.
            "LOOPBACK_ORIGINS": "true",
        }


def url(port: int) -> str:
    """Give the address of an HTTP server of the stack."""
    return f"http://{LOOPBACK}:{port}"
