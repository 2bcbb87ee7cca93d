"""An invoice as a customer gets it: usage of a month over Kafka, the month's end, and the PDF through the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.e2e.machine import Machine
from tests.support.documents import page_texts
from tests.support.events import uuid7
from tests.support.waiting import wait_until


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.close()


MANDATE, ADMIN = "postpaid-mandate", "postpaid-admin"
ADDRESS = {"company": "Acme AG", "street": "Bahnhofstrasse 1", "zip": "8001", "city": "Zürich", "country": "CH"}


def test_a_month_of_postpaid_usage_is_an_invoice_when_the_clock_has_been_moved(machine: Machine) -> None:
    up = machine
    up.succeed("up", "--detach", "--empty", "--no-limits", "--workers", "1")
    operator = up.token("--user", "operator", "--system-admin")
    up.call("PUT", f"/api/directory/mandates/{MANDATE}", operator, {"name": "p", "enabled": True})
    up.call("PUT", f"/api/directory/users/{ADMIN}", operator, {"username": "ada", "enabled": True})
    up.call("PUT", f"/api/directory/memberships/{MANDATE}/{ADMIN}", operator, {"roles": ["admin"], "enabled": True})
    admin = up.token("--user", ADMIN)
    settings = {"billingAddress": ADDRESS}
    up.call("POST", f"/api/billing/admin/settings/{MANDATE}", operator, settings)
    up.call("POST", f"/api/billing/admin/model/{MANDATE}", operator, {"billingModel": "CREDIT_POSTPAY"})
    event = {
        "specversion": "1.0",
        "id": str(uuid7()),
        "source": "/tests",
        "type": "ch.rappen.usage.recorded.v1",
        "time": datetime.now(UTC).isoformat(),
        "data": {
            "mandate_id": MANDATE,
            "user_id": ADMIN,
            "provider": "test",
            "model": "m",
            "cost": {"amount": "72.066667", "currency": "CHF"},
        },
    }
    up.record(event, up.token("--service", "tests", "--scope", "usage:write"))
    path = f"/api/billing/invoices?mandateId={MANDATE}"
    wait_until(lambda: up.call("GET", "/api/billing/transactions", admin), what="the charge", timeout_s=20)
    assert up.call("GET", path, admin) == {"items": [], "nextCursor": None}
    up.succeed("clock", "advance", "--days", "32")
    (invoice,) = up.call("GET", path, admin)["items"]
    assert [invoice[name]["amount"] for name in ("net", "vat", "total")] == ["100.000000", "8.100000", "108.100000"]
    answer = httpx.get(
        f"{up.stack['gateway']}/api/billing/invoices/{invoice['id']}/pdf",
        headers={"authorization": f"Bearer {admin}"},
        timeout=30,
        trust_env=False,
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
    assert answer.headers["content-disposition"] == f'attachment; filename="Rechnung-{invoice["number"]}.pdf"'
    assert "CHF 108.10" in page_texts(answer.content)[0]
    assert json.loads(up.succeed("audit", "--json"))["ok"] is True
