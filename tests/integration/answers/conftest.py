"""The whole public surface: the gateway with the three services behind it, as processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.ports import free_port
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.processes import ServiceProcess, all_ready
from tests.support.stack import ServerPair

Headers = dict[str, str]


@dataclass(frozen=True)
class Surface:
    """HTTP at the gateway, who can call, and what the document says of it."""

    http: httpx.AsyncClient
    issuer: Issuer
    document: dict[str, Any]
    logs: list[Path]

    def callers(self, security: bool) -> list[Headers]:
        """One of each kind; a path without a token has none."""
        if not security:
            return [{}]
        everything = "usage:write usage:check"
        return [
            self.issuer.person("root", system_admin=True),
            self.issuer.person("chief"),
            self.issuer.person("nobody"),
            self.issuer.service_account(everything),
        ]


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPair]:
    with ServerPair(tmp_path_factory.mktemp("servers")).running() as pair:
        yield pair


@pytest.fixture(scope="package")
async def surface(servers: ServerPair, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Surface]:
    folder = tmp_path_factory.mktemp("surface")
    issuer = Issuer(folder)
    payments = {
        "PAYMENTS_STRIPE__API_KEY": "sk_test_answers",
        "PAYMENTS_STRIPE__API_BASE": f"http://127.0.0.1:{free_port()}",
        "PAYMENTS_STRIPE__WEBHOOK_SECRETS": '["whsec_answers"]',
        "PAYMENTS_RETURN_ORIGINS": '["https://app.test"]',
    }
    services = {
        name: ServiceProcess(servers, name, role, folder / f"{name}.log", more=more)
        for name, role, more in (
            # What is answered is asked here, not how soon, which on a busy machine is late.
            ("billing", "all", {"BILLING_LIST_STATEMENT_S": "60"}),
            ("payments", "api", payments),
            ("subscriptions", "all", {}),
        )
    }
    gateway = GatewayProcess(servers, issuer, services, folder)
    http = httpx.AsyncClient(base_url=gateway.url, timeout=120, trust_env=False)
    async with all_ready(*services.values()), gateway, http:
        document = (await http.get("/openapi.json")).json()
        made = Surface(http, issuer, document, [folder / f"{name}.log" for name in services])
        await _people(made)
        yield made


async def _people(surface: Surface) -> None:
    """A mandate `m` with its administrator `chief` and its member `mia`, a feature instance, a price and a rate."""
    root = surface.issuer.person("root", system_admin=True)
    for path, body in (
        ("mandates/m", {"label": "M"}),
        ("users/chief", {"username": "chief"}),
        ("memberships/m/chief", {"roles": ["admin"]}),
        ("users/mia", {"username": "mia", "email": "mia@example.test", "language": "de"}),
        ("memberships/m/mia", {"roles": ["member"]}),
        ("feature-instances/i", {"mandateId": "m", "featureCode": "chat"}),
        ("feature-access/i/mia", {"roles": ["user"]}),
        ("provider-permissions/m/member", {"providers": ["openai"]}),
    ):
        answer = await surface.http.put(f"/api/directory/{path}", json=body, headers=root)
        assert answer.status_code == 200, answer.text
