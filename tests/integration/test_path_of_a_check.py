"""ARCHITECTURE.md lists the files that one check passes: these and no others run, in both processes."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import httpx

from tests.support.databases import connected
from tests.support.gateway import GatewayProcess, Issuer
from tests.support.processes import ServiceProcess
from tests.support.stack import ROOT, ServerPair
from tests.support.waiting import eventually

TRACED = ROOT / "tests" / "support" / "traced"
# As the document says, it leaves these out.
LEFT_OUT = {"chassis/clock.py", "chassis/faults.py", "chassis/logging.py", "chassis/metrics.py"}
CHECK = {
    "mandateId": "m",
    "userId": "mia",
    "estimatedCost": {"amount": "0.05", "currency": "CHF"},
    "provider": "openai",
}


def documented() -> set[str]:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text.split("## The path of one check")[1].split("\n## ")[0]
    return set(re.findall(r"^\| \d+ \| `([^`]+)` \|", section, re.MULTILINE))


async def turn(processes: list[ServiceProcess], told: Path, written: str) -> list[str]:
    """Begins or ends the tracing of the processes; gives what they have written."""
    files = [told.with_suffix(f".{process.pid}.{written}") for process in processes]
    for process in processes:
        os.kill(process.pid, signal.SIGUSR2)
    await eventually(lambda: all(file.exists() for file in files), what=f"the processes have {written}")
    return [line for file in files for line in file.read_text().splitlines()]


# Two servers and two services to start.
async def test_a_check_passes_the_documented_files_and_no_others(tmp_path: Path) -> None:
    told = tmp_path / "traced"
    more = {"PYTHONPATH": str(TRACED), "RAPPEN_TRACED": str(told)}
    issuer = Issuer(tmp_path)
    with ServerPair(tmp_path / "servers").running(["billing", "gateway"]) as servers:
        async with connected(servers.admin_dsn) as connection:
            await connection.execute(
                "INSERT INTO billing.directory_mandates (id, name, label, enabled, is_system, version)"
                " VALUES ('m', 'm', 'M', true, false, 1);"
                "INSERT INTO billing.directory_users (id, username, display_name, enabled, version)"
                " VALUES ('mia', 'mia', 'Mia', true, 1);"
                "INSERT INTO billing.directory_members (mandate_id, user_id, roles, enabled, version)"
                " VALUES ('m', 'mia', '{member}', true, 1)"
            )
        billing = ServiceProcess(servers, "billing", "api", tmp_path / "billing.log", more=more)
        # A check goes to billing alone.
        peers = dict.fromkeys(("billing", "payments", "subscriptions"), billing)
        gateway = GatewayProcess(servers, issuer, peers, tmp_path, role="api", more=more)
        headers = issuer.service_account("usage:check")
        async with billing, gateway, httpx.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False) as http:
            # Accounts, connections, plans and caches come into being.
            for _ in range(2):
                assert (await http.post("/api/billing/check", json=CHECK)).status_code == 200
            processes = [gateway, billing]
            await turn(processes, told, "begun")
            assert (await http.post("/api/billing/check", json=CHECK)).status_code == 200
            passed = await turn(processes, told, "files")
    names = {re.sub(r".*/(services|contracts)/", "", file) for file in passed}
    assert names - LEFT_OUT == documented()
