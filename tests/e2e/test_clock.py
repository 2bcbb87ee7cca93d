"""`rappen clock` upon a whole stack: trials, prices, usage and Stripe's sessions go by the moved time, tokens do not.

The tests of this module are one story, in their order, upon one stack: starting it takes longer than all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.machine import Machine
from tests.support.events import uuid7
from tests.support.waiting import wait_until

MANDATE, ADMIN = "clock-mandate", "clock-admin"
MONTH = timedelta(days=31)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("home"))
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def up(machine: Machine) -> Machine:
    assert machine.run("clock", "advance", "--days", "1").stderr.strip().endswith("start it with: rappen up")
    machine.succeed("up", "--detach", "--empty", "--no-limits", "--workers", "1")
    return machine


@pytest.fixture(scope="module")
def operator(up: Machine) -> str:
    return up.token("--user", "clock-operator", "--system-admin")


@pytest.fixture(scope="module")
def admin(up: Machine, operator: str) -> str:
    """The administrator of a mandate on a trial; the token is of before any advance."""
    up.call("PUT", f"/api/directory/mandates/{MANDATE}", operator, {"name": "m", "label": "Clock AG", "enabled": True})
    up.call("PUT", f"/api/directory/users/{ADMIN}", operator, {"username": "ada", "enabled": True})
    up.call("PUT", f"/api/directory/memberships/{MANDATE}/{ADMIN}", operator, {"roles": ["admin"], "enabled": True})
    token = up.token("--user", ADMIN)
    up.call("POST", f"/api/subscriptions/{MANDATE}", token, {"planKey": "TRIAL_7D"})
    return token


@pytest.fixture(scope="module")
def session(up: Machine, admin: str) -> str:
    """An open session at Stripe for a top-up."""
    body = {"amount": 25, "returnUrl": "http://localhost:5173/billing"}
    up.call("POST", f"/api/billing/checkout/create/{MANDATE}", admin, body)
    return str(sessions(up)[-1]["id"])


def sessions(machine: Machine) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = machine.http("GET", f"{machine.stack['stripe']}/_control/checkout/sessions").json()
    return answer


def send_usage(machine: Machine, at: datetime) -> httpx.Response:
    """Sends usage of a model that has a price from the tenth day on."""
    event = {
        "specversion": "1.0",
        "id": str(uuid7()),
        "source": "/tests",
        "type": "ch.rappen.usage.recorded.v1",
        "time": at.isoformat(),
        "data": {
            "mandate_id": MANDATE,
            "user_id": ADMIN,
            "provider": "test",
            "model": "later",
            "tokens": {"input": 1000, "output": 0},
        },
    }
    token = machine.token("--service", "clock", "--scope", "usage:write")
    headers = {"authorization": f"Bearer {token}", "content-type": "application/cloudevents+json"}
    return httpx.post(f"{machine.stack['gateway']}/api/usage", json=event, headers=headers, timeout=30, trust_env=False)


def charges(machine: Machine, token: str) -> list[dict[str, Any]]:
    rows = machine.call("GET", "/api/billing/transactions", token)
    return [row for row in rows if row["transactionType"] == "DEBIT"]


def test_what_it_does_not_do_it_says_and_the_time_stays(up: Machine) -> None:
    for words, said in (
        ((), "say how far: --days N, --hours N or --to TIME"),
        (("--days", "0"), "say how far"),
        (("--days", "-1"), "forward only"),
        (("--hours", "-1", "--days", "2"), "forward only"),
        (("--to", "2026-01-01T00:00:00Z"), "forward only"),
        (("--to", "tomorrow"), "--to is no time, as in 2027-01-31T08:00:00Z"),
        (("--to", "2030-01-01T00:00:00Z", "--days", "1"), "not both"),
        (("--days", "4000"), "ten years at once"),
    ):
        done = up.run("clock", "advance", *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), words
        assert done.stderr.startswith("rappen: ")
        assert said in done.stderr
    told = up.succeed("clock").splitlines()
    assert [line.endswith("Z  the machine's time") for line in told] == [True, True]


def test_usage_of_later_is_refused_and_has_no_price_yet(up: Machine, operator: str, admin: str, tmp_path: Path) -> None:
    begins = datetime.now(UTC) + timedelta(days=10)
    model = {
        "provider": "test",
        "model": "later",
        "currency": "CHF",
        "valid_from": begins.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lists": [{"prices": {"input": "0.001", "output": "0.001"}}],
    }
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"format": "rappen.prices.v1", "prices": [model]}))
    up.succeed("prices", "import", str(file), "--apply")
    up.call("POST", f"/api/billing/admin/credit/{MANDATE}", operator, {"amount": 10, "description": "for the test"})
    refused = send_usage(up, datetime.now(UTC) + MONTH)
    assert (refused.status_code, "TIME_IN_FUTURE" in refused.text) == (422, True)
    assert send_usage(up, datetime.now(UTC)).status_code == 202
    wait_until(lambda: "test/later" in up.succeed("unpriced"), what="it waits for a price", timeout_s=20)
    assert charges(up, admin) == []


HELD = {"amount": "4.000000", "currency": "CHF"}
NOTHING = {"amount": "0.000000", "currency": "CHF"}


@pytest.fixture(scope="module")
def service(up: Machine) -> str:
    """The token of an AI service."""
    return up.token("--service", "clock", "--scope", "usage:check usage:write")


def ask(machine: Machine, token: str, path: str, amount: str, *, expect: int) -> Any:
    cost = {"amount": amount, "currency": "CHF"}
    body = {"mandateId": MANDATE, "userId": ADMIN, "estimatedCost": cost}
    return machine.call("POST", path, token, body, expect=expect)


@pytest.fixture(scope="module")
def hold(up: Machine, service: str, admin: str) -> str:
    """A hold from before any advance, of the credit and the trial's budget."""
    made = ask(up, service, "/api/billing/holds", "4", expect=201)
    assert (made["amount"], made["balanceAfterHold"]["amount"]) == (HELD, "11.000000")
    return str(made["holdId"])


def test_what_is_held_is_not_there_for_others(up: Machine, service: str, hold: str) -> None:
    assert ask(up, service, "/api/billing/check", "12", expect=200)["reason"] == "INSUFFICIENT_BALANCE"
    assert ask(up, service, "/api/billing/holds", "12", expect=402)["code"] == "INSUFFICIENT_BALANCE"
    assert ask(up, service, "/api/billing/check", "11", expect=200)["heldAmount"] == HELD


def test_a_month_later_the_trial_is_over_when_the_command_returns(up: Machine, admin: str, session: str) -> None:
    shown = up.call("GET", f"/api/subscriptions/{MANDATE}", admin)
    assert shown["status"] == "TRIALING"
    *times, last = up.succeed("clock", "advance", "--days", "31").splitlines()
    expected = datetime.now(UTC) + MONTH
    for line, name in zip(times, ("platform", "fake Stripe"), strict=True):
        assert line.startswith(name)
        assert line.endswith("31 days ahead")
        told = datetime.fromisoformat(line.removeprefix(name).split()[0])
        assert abs(told - expected) < timedelta(minutes=1)
    assert last == "Every process goes by it, and every job has done what was due."
    # With the token of before.
    assert up.call("GET", f"/api/subscriptions/{MANDATE}", admin)["status"] == "EXPIRED"


def test_the_hold_is_over_and_its_amount_given_back(up: Machine, service: str, admin: str, hold: str) -> None:
    # The trial is over too, which is refused before money is looked at; that it is, travels to billing as an event.
    checked: dict[str, Any] = {}

    def trial_is_over() -> bool:
        checked.update(ask(up, service, "/api/billing/check", "10", expect=200))
        return bool(checked["reason"] == "NO_ACTIVE_SUBSCRIPTION")

    wait_until(trial_is_over, what="billing knows that the trial is over", timeout_s=20)
    assert (checked["reason"], checked["heldAmount"], checked["shortfall"]) == (
        "NO_ACTIVE_SUBSCRIPTION",
        NOTHING,
        NOTHING,
    )
    pool = up.call("GET", f"/api/billing/admin/accounts/{MANDATE}", admin)[0]
    assert pool["heldAmount"] == 0
    refused = up.call("POST", f"/api/billing/holds/{hold}/capture", service, {"cost": HELD}, expect=409)
    assert refused["code"] == "HOLD_EXPIRED"


def test_the_session_at_stripe_expired_and_payments_learned_of_it(up: Machine, session: str) -> None:
    (found,) = [each for each in sessions(up) if each["id"] == session]
    assert found["status"] == "expired"
    wait_until(partial(_is_processed, up, session), what="the webhook is processed", timeout_s=20)


def _is_processed(machine: Machine, session: str) -> bool:
    lines = [line for line in machine.succeed("events", "list").splitlines() if session in line]
    return any("checkout.session.expired" in line and "EXPIRED" in line.split("  ") for line in lines)


def test_usage_is_taken_and_priced_by_the_moved_time(up: Machine, admin: str) -> None:
    now = datetime.now(UTC) + MONTH
    assert send_usage(up, now).status_code == 202
    wait_until(lambda: charges(up, admin), what="the charge", timeout_s=20)
    (charge,) = charges(up, admin)
    # 1000 tokens, and half as much again is the markup.
    assert charge["amount"] == Decimal("1.5")
    assert abs(datetime.fromisoformat(charge["recordedAt"]) - now) < timedelta(minutes=1)


def test_a_hold_is_made_and_captured_through_the_gateway(up: Machine, operator: str, service: str) -> None:
    mandate, path = "clock-holds", "/api/billing/holds"
    for kind, body in (
        (f"mandates/{mandate}", {"name": "h", "label": "Holds AG", "enabled": True}),
        (f"memberships/{mandate}/{ADMIN}", {"roles": ["member"], "enabled": True}),
    ):
        up.call("PUT", f"/api/directory/{kind}", operator, body)
    up.call("POST", f"/api/billing/admin/credit/{mandate}", operator, {"amount": 10, "description": "for the test"})
    cost = {"amount": "2", "currency": "CHF"}
    asked = {"mandateId": mandate, "userId": ADMIN, "estimatedCost": cost, "idempotencyKey": "one"}
    made = up.call("POST", path, service, asked, expect=201)
    assert up.call("POST", path, service, asked, expect=201) == made
    assert datetime.fromisoformat(made["expiresAt"]) - datetime.now(UTC) > MONTH
    captured = up.call("POST", f"{path}/{made['holdId']}/capture", service, {"cost": cost})
    assert (captured["amount"]["amount"], captured["balanceAfter"]["amount"]) == ("3.000000", "7.000000")
    assert up.call("POST", f"{path}/{made['holdId']}/capture", service, {"cost": cost}) == captured
    other = up.call("POST", path, service, {**asked, "idempotencyKey": "two"}, expect=201)
    assert up.call("POST", f"{path}/{other['holdId']}/void", service)["amount"]["amount"] == "2.000000"
    checker = up.token("--service", "clock", "--scope", "usage:check")
    assert up.call("POST", f"{path}/{other['holdId']}/capture", checker, {"cost": cost}, expect=403)["code"] == (
        "INSUFFICIENT_SCOPE"
    )
    assert up.call("POST", path, operator, asked, expect=403)["code"] == "FORBIDDEN"


def test_a_top_up_of_later_is_credited(up: Machine, admin: str) -> None:
    body = {"amount": 25, "returnUrl": "http://localhost:5173/billing"}
    before = Decimal(up.call("GET", f"/api/billing/balance/{MANDATE}", admin)["balance"])
    up.call("POST", f"/api/billing/checkout/create/{MANDATE}", admin, body)
    url = f"{up.stack['stripe']}/_control/checkout/sessions/{sessions(up)[-1]['id']}/pay"
    assert up.http("POST", url, {"outcome": "paid"}).status_code == 200

    def credited() -> bool:
        return Decimal(up.call("GET", f"/api/billing/balance/{MANDATE}", admin)["balance"]) == before + 25

    wait_until(credited, what="the credit", timeout_s=20)


def test_the_books_add_up_and_nothing_was_refused(up: Machine) -> None:
    told = json.loads(up.succeed("audit", "--json"))
    assert told["ok"] is True
    (published,) = [check for check in told["checks"] if check["check"] == "published"]
    # Balances published by the moved time are read too.
    assert published["accounts"] > 0
    assert "dead letters: 0 " in up.succeed("status")


def test_a_stack_that_starts_again_is_where_it_was_and_moves_on_to_a_time(up: Machine, admin: str) -> None:
    up.succeed("down")
    up.succeed("up", "--detach", "--empty", "--no-limits", "--workers", "1")
    assert [line.endswith("31 days ahead") for line in up.succeed("clock", "show").splitlines()] == [True, True]
    wanted = datetime.now(UTC) + timedelta(days=40)
    up.succeed("clock", "advance", "--to", f"{wanted:%Y-%m-%dT%H:%M:%SZ}")
    platform, stripe = (
        datetime.fromisoformat(line.split("Z")[0].split()[-1] + "+00:00")
        for line in up.succeed("clock", "show").splitlines()
    )
    assert timedelta() <= platform - wanted.replace(microsecond=0) < timedelta(minutes=1)
    assert platform == stripe
    assert up.call("GET", f"/api/subscriptions/{MANDATE}", admin)["status"] == "EXPIRED"


def test_an_advance_that_was_cut_off_is_finished_first_and_its_repeat_is_no_second_one(up: Machine) -> None:
    day = 24 * 3600
    platform, stripe = offsets(up)
    record = up.home / ".rappen" / "data" / "clock-advance.json"
    targets = {"platform_offset_s": platform + day, "stripe_offset_s": stripe + day}
    record.write_text(json.dumps({"seconds": day, **targets}))
    # The fake Stripe had moved when the command was killed.
    assert up.http("POST", f"{up.stack['stripe']}/_control/clock/advance", {"seconds": day}).status_code == 200
    assert "An advance by 1 day was cut off half way" in up.succeed("clock")
    assert "The advance by 1 day that was cut off half way is made." in up.succeed("clock", "advance", "--days", "1")
    assert offsets(up) == (platform + day, stripe + day)

    record.write_text(json.dumps({"seconds": day, **{name: offset + day for name, offset in targets.items()}}))
    other = up.run("clock", "advance", "--hours", "5")
    assert other.returncode == 1
    assert other.stderr == "rappen: nothing else was moved; for 5:00:00 more give the command again\n"
    assert offsets(up) == (platform + 2 * day, stripe + 2 * day)
    up.succeed("clock", "advance", "--hours", "5")
    assert offsets(up) == (platform + 2 * day + 5 * 3600, stripe + 2 * day + 5 * 3600)


def offsets(machine: Machine) -> tuple[int, int]:
    """By how much the platform and the fake Stripe are ahead."""
    platform = json.loads((machine.home / ".rappen" / "data" / "clock.json").read_text())["offset_s"]
    return platform, machine.http("GET", f"{machine.stack['stripe']}/_control/state").json()["clock_offset_s"]


def test_usage_that_flows_while_the_time_is_moved_is_never_of_a_future(up: Machine, tmp_path: Path) -> None:
    output = tmp_path / "simulation.txt"
    simulation = up.start("simulate", "--rate", "300", "--seconds", "20", output=output)
    # The demo tenant is made first. Enough is left of the time on a machine that is busy, too.
    wait_until(partial(_has_charges, output), what="charges of the demo tenant", timeout_s=60)
    up.succeed("clock", "advance", "--days", "1")
    assert simulation.wait(90) == 0, output.read_text()
    assert "TIME_IN_FUTURE" not in up.succeed("dlq", "list", "--limit", "1000")
    token = up.token("--user", "anna.keller")
    ahead = [datetime.fromisoformat(row["createdAt"]) - datetime.now(UTC) for row in charges(up, token)]
    assert min(ahead) > timedelta(days=40)
    # Some of it was made after the move.
    assert max(ahead) > timedelta(seconds=offsets(up)[0]) - timedelta(minutes=1)


def _has_charges(output: Path) -> bool:
    """Whether the simulation tells of charges; asking the gateway until there are some would meet the rate limit."""
    return any(int(number) for number in re.findall(r"(\d+) charges", output.read_text()))


def test_down_with_purge_takes_the_time_with_it(up: Machine) -> None:
    up.succeed("down", "--purge")
    assert not (up.home / ".rappen").exists()
