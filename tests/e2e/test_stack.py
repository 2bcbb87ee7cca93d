"""The stack on one machine from outside, to the letter of the contracts: the command, `stack.json`, and what it says.

The tests of this module are one story, in their order, upon one stack: starting it takes longer than all of them.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from tests.e2e.machine import Machine
from tests.support.events import publish, usage_record
from tests.support.waiting import wait_until

MANDATE, ADMIN = "e2e-mandate", "e2e-admin"
RETURN_URL = "http://localhost:5173/billing?tab=top-up#form"
PROCESSES = {
    "postgres",
    "kafka",
    "fakestripe",
    "mail",
    "billing-api",
    "billing-worker-1",
    "billing-worker-2",
    "payments",
    "subscriptions",
    "gateway",
}
# Those that consume a topic.
READERS = {"billing-worker-1", "billing-worker-2", "payments", "subscriptions", "gateway"}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("home"))
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def up(machine: Machine) -> Machine:
    machine.succeed("up", "--detach", "--empty")
    return machine


@pytest.fixture(scope="module")
def operator(up: Machine) -> str:
    return up.token("--user", "e2e-operator", "--system-admin")


@pytest.fixture(scope="module")
def admin(up: Machine, operator: str) -> str:
    """The administrator of a mandate that the directory has been told of."""
    up.call(
        "PUT", f"/api/directory/mandates/{MANDATE}", operator, {"name": "e2e", "label": "End to End", "enabled": True}
    )
    user = {"username": "ada", "email": "ada@example.org", "firstName": "Ada", "lastName": "Amsler", "language": "de"}
    up.call("PUT", f"/api/directory/users/{ADMIN}", operator, {**user, "enabled": True})
    up.call("PUT", f"/api/directory/memberships/{MANDATE}/{ADMIN}", operator, {"roles": ["admin"], "enabled": True})
    return up.token("--user", ADMIN)


def balance(machine: Machine, admin: str) -> Decimal:
    return Decimal(machine.call("GET", f"/api/billing/balance/{MANDATE}", admin)["balance"])


def test_up_writes_a_stack_file_with_everything_a_program_needs(up: Machine) -> None:
    stack = up.stack
    for name in ("gateway", "payments_webhook", "stripe", "mail"):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+(/[a-z/]+)?", stack[name])
    assert re.fullmatch(r"127\.0\.0\.1:\d+", stack["kafka"])
    assert set(stack["postgres"]) == {"admin", "gateway", "billing", "payments", "subscriptions"}
    assert all(dsn.startswith("postgresql://") for dsn in stack["postgres"].values())
    assert {process["name"] for process in stack["processes"]} == PROCESSES
    for process in stack["processes"]:
        assert psutil.pid_exists(process["pid"])
        assert Path(process["log"]).is_file()


def test_every_process_is_ready_and_status_has_a_line_for_each(up: Machine) -> None:
    assert [name for name in PROCESSES if not up.ready(name)] == []
    *table, counts = up.succeed("status").splitlines()
    assert counts == "dead letters: 0 (rappen dlq list), unpriced: 0 (rappen unpriced), unknown: 0 (rappen unknown)"
    lines = {line.split()[0]: line.split() for line in table[1:]}
    assert lines.keys() == PROCESSES
    for process in up.stack["processes"]:
        _, role, port, pid, ready, restarts, lag = lines[process["name"]]
        assert (role, port, pid) == (process["role"], str(process["port"]), str(process["pid"]))
        assert (ready, restarts) == ("yes", "0")
        assert (lag == "0") == (process["name"] in READERS)


def test_the_gateway_tells_of_its_health_at_its_health_address_and_not_to_the_public(up: Machine) -> None:
    internal = up.process("gateway")["health"].removesuffix("/readyz")
    for path in ("/healthz", "/readyz", "/metrics"):
        assert up.http("GET", internal + path).status_code == 200
        public = up.http("GET", up.stack["gateway"] + path)
        assert (public.status_code, public.headers["content-type"]) == (404, "application/problem+json")


def test_the_webhook_address_takes_only_what_stripe_signed(up: Machine) -> None:
    assert up.http("POST", up.stack["payments_webhook"], {"id": "evt_1"}).status_code == 400


async def test_usage_on_kafka_falls_from_the_balance_that_the_gateway_tells(
    up: Machine, operator: str, admin: str
) -> None:
    up.call("POST", f"/api/billing/admin/credit/{MANDATE}", operator, {"amount": 10, "description": "for the test"})
    assert balance(up, admin) == 10
    event = usage_record(MANDATE, ADMIN, amount="0.10")
    await publish(up.stack["kafka"], [event, event])
    wait_until(lambda: balance(up, admin) < 10, timeout_s=20, what="the charge")
    # Half as much again is the markup of a mandate without a plan.
    assert balance(up, admin) == Decimal("9.85")
    (charge,) = [row for row in up.call("GET", "/api/billing/transactions", admin) if row["transactionType"] == "DEBIT"]
    assert (charge["amount"], charge["createdByUserId"]) == (Decimal("0.15"), ADMIN)


def test_usage_that_is_cancelled_over_http_or_by_the_command_comes_back_once(
    up: Machine, operator: str, admin: str
) -> None:
    program = up.token("--service", "meter", "--scope", "usage:write")
    first, second = (
        {
            "specversion": "1.0",
            "id": str(uuid4()),
            "source": "/tests",
            "type": "ch.rappen.usage.recorded.v1",
            "time": datetime.now(UTC).isoformat(),
            "data": {
                "mandate_id": MANDATE,
                "user_id": ADMIN,
                "provider": "anthropic",
                "model": "claude-sonnet-4-5",
                "cost": {"amount": amount, "currency": "CHF"},
            },
        }
        for amount in ("1", "2")
    )
    data = {"mandate_id": MANDATE, "event_id": first["id"], "reason": "never delivered"}
    voided = {**first, "id": str(uuid4()), "type": "ch.rappen.usage.voided.v1", "data": data}
    for event in (voided, second, first):
        assert up.record(event, program)["accepted"] == 1

    def charges() -> dict[str, dict[str, Any]]:
        rows = up.call("GET", "/api/billing/transactions", admin)
        return {row["referenceId"]: row for row in rows if row["transactionType"] in ("DEBIT", "ADJUSTMENT")}

    wait_until(lambda: {first["id"], second["id"]} <= charges().keys(), timeout_s=20, what="both charges")
    charged = charges()
    assert charged[charged[first["id"]]["id"]]["description"] == "Reversal: never delivered"
    assert balance(up, admin) == Decimal("6.85")
    told = up.succeed("reverse", MANDATE, second["id"], "--reason", "by hand")
    assert told.startswith("taken back: 3.000000 CHF, by transaction ")
    assert balance(up, admin) == Decimal("9.85")
    path = f"/api/billing/transactions/{charged[second['id']]['id']}/reverse"
    answer = up.call("POST", path, operator, {"reason": "once more"})
    assert (answer["description"], answer["id"]) == ("Reversal: by hand", told.split()[-1])
    assert up.call("POST", path, admin, {"reason": "mine"}, expect=403)["code"]
    assert balance(up, admin) == Decimal("9.85")
    assert up.run("reverse", "nowhere", second["id"], "--reason", "x").returncode == 1


def test_a_program_with_its_token_may_ask_and_nothing_else(up: Machine) -> None:
    program = up.token("--service", "guard", "--scope", "usage:check")
    question = {"mandateId": MANDATE, "userId": ADMIN, "estimatedCost": {"amount": "9.850001", "currency": "CHF"}}
    answer = up.call("POST", "/api/billing/check", program, question)
    assert (answer["allowed"], answer["reason"]) == (False, "INSUFFICIENT_BALANCE")
    assert answer["shortfall"] == {"amount": "0.000001", "currency": "CHF"}
    up.call("GET", "/api/billing/balance", program, expect=403)


def test_a_checkout_paid_at_the_fake_stripe_raises_the_balance_once(up: Machine, admin: str) -> None:
    before = balance(up, admin)
    body = {"amount": 25, "returnUrl": RETURN_URL}
    redirect = up.call("POST", f"/api/billing/checkout/create/{MANDATE}", admin, body)["redirectUrl"]
    sessions = f"{up.stack['stripe']}/_control/checkout/sessions"
    session = up.http("GET", sessions).json()[-1]
    assert session["url"] == redirect
    assert up.http("GET", redirect).status_code == 200
    paid = {"outcome": "paid", "webhooks": {"duplicate": 2, "shuffle": True}}
    assert up.http("POST", f"{sessions}/{session['id']}/pay", paid).status_code == 200
    wait_until(lambda: balance(up, admin) > before, timeout_s=20, what="the credit")
    confirmed = up.call("POST", "/api/billing/checkout/confirm", admin, {"sessionId": session["id"]})
    assert (confirmed["credited"], confirmed["alreadyCredited"], confirmed["amountChf"]) == (False, True, 25)
    assert balance(up, admin) == before + 25
    assert "checkout.session.completed" in up.succeed("stripe", "events", "list")


def test_a_payment_whose_webhook_got_lost_is_found_and_healed(up: Machine, admin: str) -> None:
    before = balance(up, admin)
    up.succeed("plan", "sync")
    up.succeed("reconcile")
    body = {"amount": 25, "returnUrl": RETURN_URL}
    up.call("POST", f"/api/billing/checkout/create/{MANDATE}", admin, body)
    sessions = f"{up.stack['stripe']}/_control/checkout/sessions"
    session = up.http("GET", sessions).json()[-1]
    lost = {"outcome": "paid", "webhooks": {"drop": True}}
    intent_id = up.http("POST", f"{sessions}/{session['id']}/pay", lost).json()["payment_intent"]
    found = up.run("reconcile", "--json")
    assert found.returncode == 1
    (difference,) = json.loads(found.stdout)["differences"]
    assert (difference["kind"], difference["stripeId"], difference["healed"]) == ("PAYMENT_MISSING", intent_id, False)
    assert balance(up, admin) == before
    assert "healed" in up.succeed("reconcile", "--apply")
    wait_until(lambda: balance(up, admin) == before + 25, timeout_s=20, what="the credit")
    assert json.loads(up.succeed("reconcile", "--json"))["differences"] == []


@pytest.mark.parametrize(
    "words", [("--from", "yesterday"), ("--from=",), ("--fro", "2026-05-01T00:00:00Z"), ("--from",)]
)
def test_what_reconcile_cannot_take_is_refused_in_the_words_that_were_given(
    up: Machine, words: tuple[str, ...]
) -> None:
    refused = up.run("reconcile", *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert words[0].rstrip("=") in refused.stderr
    assert "--since" not in refused.stderr


def test_prices_are_previewed_and_then_imported(up: Machine, operator: str) -> None:
    file = str(Path(__file__).parents[2] / "deploy" / "simulator" / "prices.json")
    up.succeed("prices", "import", file)
    assert up.call("GET", "/api/billing/admin/prices", operator)["items"] == []
    up.succeed("prices", "import", file, "--apply")
    assert len(up.call("GET", "/api/billing/admin/prices", operator)["items"]) == 23


async def test_a_killed_worker_is_started_again_under_a_new_pid_and_goes_on_charging(up: Machine, admin: str) -> None:
    before, killed = balance(up, admin), {}
    for name in ("billing-worker-1", "billing-worker-2"):
        killed[name] = up.kill(name)
    await publish(up.stack["kafka"], [usage_record(MANDATE, ADMIN, amount="0.20")])
    for name, pid in killed.items():
        wait_until(partial(_started_again, up, name, pid), timeout_s=20, what=f"{name} again")
        wait_until(partial(up.ready, name), what=f"{name} ready")
        assert psutil.pid_exists(up.process(name)["pid"])
    wait_until(lambda: balance(up, admin) < before, timeout_s=30, what="the charge")
    assert balance(up, admin) == before - Decimal("0.30")


def test_charges_are_priced_again_over_http_and_by_the_command(up: Machine, operator: str, admin: str) -> None:
    model = f"model-{uuid4()}"

    def price(amount: str) -> None:
        entry = {"provider": "acme", "model": model, "currency": "CHF", "valid_from": "2026-01-01T00:00:00Z"}
        lists = [{"prices": {"input": amount}}]
        file = {"format": "rappen.prices.v1", "prices": [{**entry, "lists": lists}]}
        up.call("POST", "/api/billing/admin/prices", operator, file)

    before = balance(up, admin)
    price("0.001")
    program = up.token("--service", "meter", "--scope", "usage:write")
    event = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "/tests",
        "type": "ch.rappen.usage.recorded.v1",
        "time": datetime.now(UTC).isoformat(),
        "data": {
            "mandate_id": MANDATE,
            "user_id": ADMIN,
            "provider": "acme",
            "model": model,
            "tokens": {"input": 1000},
        },
    }
    assert up.record(event, program)["accepted"] == 1
    wait_until(lambda: balance(up, admin) == before - Decimal("1.5"), timeout_s=20, what="the charge")
    price("0.0012")
    asked = {"from": "2026-01-01T00:00:00Z", "to": "2199-01-01T00:00:00Z", "model": model}
    path = "/api/billing/admin/rerate"
    up.call("POST", path, admin, {**asked, "preview": True}, expect=403)
    preview = up.call("POST", path, operator, {**asked, "preview": True})
    assert (preview["state"], preview["mandates"][0]["mandateId"]) == ("PREVIEW", MANDATE)
    assert preview["difference"] == {"amount": "0.300000", "currency": "CHF"}
    ordered = up.call("POST", path, operator, {**asked, "preview": False})
    done = f"{path}/{ordered['id']}"
    wait_until(lambda: up.call("GET", done, operator)["state"] == "DONE", timeout_s=20, what="the re-rating")
    assert balance(up, admin) == before - Decimal("1.8")
    (correction,) = [
        row for row in up.call("GET", "/api/billing/transactions", admin) if row["description"] == "Re-rating: acme"
    ]
    assert (correction["transactionType"], correction["amount"]) == ("ADJUSTMENT", Decimal("-0.3"))
    price("0.001")
    command = ("rerate", "--from", asked["from"], "--to", asked["to"], "--model", model)
    assert "1 differ, CHF 1.800000 -> 1.500000, difference -0.300000" in up.succeed(*command)
    assert "1 corrected, CHF 1.800000 -> 1.500000, difference -0.300000" in up.succeed(*command, "--apply")
    assert balance(up, admin) == before - Decimal("1.5")
    # The story goes on with what there was.
    up.succeed("reverse", MANDATE, event["id"], "--reason", "end of the chapter")
    assert balance(up, admin) == before


def test_the_audit_finds_the_books_right(up: Machine) -> None:
    told = json.loads(up.succeed("audit", "--json"))
    assert told["ok"] is True
    assert len(told["checks"]) >= 5
    assert all(check["failing"] == 0 for check in told["checks"])
    # Nobody has limits, storage or many rollups here, and no day is over.
    assert {check["check"] for check in told["checks"] if not check["accounts"]} <= {
        "limits",
        "sealed",
        "storage",
        "sums",
    }


def test_down_leaves_no_process_and_no_stack_file(up: Machine) -> None:
    pids = [process["pid"] for process in up.stack["processes"]]
    up.succeed("down")
    assert not up.stack_file.exists()
    assert up.running() == []
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    assert up.run("status").returncode == 1


def test_the_demo_shows_charges_without_a_terminal_and_ctrl_c_leaves_nothing(machine: Machine, tmp_path: Path) -> None:
    output = tmp_path / "demo.txt"
    demo = machine.start("demo", "--rate", "30", output=output)
    try:
        wait_until(
            lambda: _seen(output, r"(\d+) charges") >= 100 or demo.poll() is not None, timeout_s=90, what="charges"
        )
        wait_until(
            lambda: "0 differences" in output.read_text() or demo.poll() is not None, timeout_s=20, what="the audit"
        )
        page = re.search(r"http://127\.0\.0\.1:\d+/pay/cs_test_\w+", output.read_text())
        assert page, output.read_text()
        assert machine.http("GET", page[0]).status_code == 200
    finally:
        demo.send_signal(signal.SIGINT)
        code = demo.wait(60)
    assert code == 0, output.read_text()
    assert machine.running() == []


def _started_again(machine: Machine, name: str, killed: int) -> bool:
    """Whether `stack.json` names another process than the one that was killed."""
    return machine.process(name)["pid"] not in (killed, None)


def _seen(output: Path, pattern: str) -> int:
    """The last number that was told."""
    found = re.findall(pattern, output.read_text())
    return int(found[-1]) if found else 0
