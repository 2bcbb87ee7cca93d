"""A subscription's life upon a whole stack with the fake Stripe, month by month by `rappen clock`: a trial, a plan that
begins on the 31st, renewals, a card that runs dry and is good again, a switch to a yearly plan, members who come and
go, a cancellation that is taken back and one that is not. Each period has its budget once, and the books add up.

The tests of this module are one story, in their order, upon one stack.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import stripe

from tests.e2e.machine import Machine
from tests.support.waiting import wait_until

MANDATE, ADMIN = "life-mandate", "life-admin"
PATH = f"/api/subscriptions/{MANDATE}"
RETURN_URL = "http://localhost:5173/plans"
DECLINED, GOOD = "pm_card_chargeCustomerFail", "pm_card_visa"


class Life:
    """The stack, its operator and the mandate whose life it is."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.operator = machine.token("--user", "life-operator", "--system-admin")
        mandate = {"name": "m", "label": "Life AG", "enabled": True}
        machine.call("PUT", f"/api/directory/mandates/{MANDATE}", self.operator, mandate)
        self.add_member(ADMIN, "admin")
        self.admin = machine.token("--user", ADMIN)
        identity = json.loads((machine.home / ".rappen" / "state" / "secrets.json").read_text())
        self.stripe = stripe.StripeClient(
            identity["stripe_api_key"],
            base_addresses={"api": machine.stack["stripe"]},
            http_client=stripe.HTTPXClient(allow_sync_methods=True),
        )

    def add_member(self, user: str, role: str = "member", *, enabled: bool = True) -> None:
        person = {"username": user, "enabled": True}
        self.machine.call("PUT", f"/api/directory/users/{user}", self.operator, person)
        body = {"roles": [role], "enabled": enabled}
        self.machine.call("PUT", f"/api/directory/memberships/{MANDATE}/{user}", self.operator, body)

    def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = self.machine.call("GET", PATH, self.admin)
        return found

    def shows(self, **expected: object) -> dict[str, Any]:
        """The subscription, once it shows these values."""
        found: dict[str, Any] = {}

        def there() -> bool:
            found.update(self.shown())
            return expected.items() <= found.items()

        try:
            wait_until(there, what=str(expected))
        except AssertionError as error:
            raise AssertionError(f"{expected}, not {found}") from error
        return found

    def start(self, plan_key: str) -> None:
        """Starts a plan and pays its checkout."""
        answer = self.machine.call("POST", PATH, self.admin, {"planKey": plan_key, "returnUrl": RETURN_URL})
        (session,) = [each for each in self._sessions() if each["url"] == answer["redirectUrl"]]
        paid = self.machine.http("POST", f"{self._control}/checkout/sessions/{session['id']}/pay", {"outcome": "paid"})
        assert paid.status_code == 200, paid.text

    def _sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.machine.http("GET", f"{self._control}/checkout/sessions").json()
        return found

    @property
    def _control(self) -> str:
        return f"{self.machine.stack['stripe']}/_control"

    def turn_to(self, time: str) -> None:
        """Moves the time to a moment, and Stripe's too."""
        self.machine.succeed("clock", "advance", "--to", time)

    def card_is(self, card: str) -> None:
        """Lets another card stand behind every payment method of the mandate's subscriptions."""
        customers = self.stripe.v1.customers.list({"limit": 10}).data
        methods = [each.id for customer in customers for each in self._methods(customer.id)]
        assert methods
        for method in methods:
            changed = self.machine.http("POST", f"{self._control}/payment_methods/{method}", {"card": card})
            assert changed.status_code == 200, changed.text

    def _methods(self, customer: str) -> Any:
        return self.stripe.v1.customers.payment_methods.list(customer).data

    def running(self) -> Any:
        """The mandate's subscription at Stripe that is charged now."""
        found = self.stripe.v1.subscriptions.list({"limit": 100}).data
        (only,) = [each for each in found if each.metadata["mandateId"] == MANDATE and each.status != "trialing"]
        return only

    def budgets(self) -> list[tuple[str, Decimal]]:
        """Every budget that was credited: its day and amount, the oldest first."""
        rows = self.machine.call("GET", "/api/billing/transactions?limit=200", self.admin)
        found = [row for row in rows if row["referenceType"] == "SUBSCRIPTION" and row["transactionType"] == "CREDIT"]
        return sorted((row["createdAt"][:10], Decimal(row["amount"])) for row in found)

    def budgets_are(self, expected: list[tuple[str, int]]) -> None:
        wanted = [(day, Decimal(amount)) for day, amount in expected]
        wait_until(lambda: self.budgets() == wanted, what=f"{wanted}, not {self.budgets()}")


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    machine = Machine(tmp_path_factory.mktemp("home"))
    try:
        machine.succeed("up", "--detach", "--empty", "--no-limits", "--workers", "1")
        life = Life(machine)
        # The last day of a month, which the next has not; of a year that is not over.
        life.turn_to(f"{YEAR}-01-24T09:00:00Z")
        yield life
    finally:
        machine.close()


YEAR = datetime.now(UTC).year + 1
NEXT = YEAR + 1


def test_a_trial_gives_way_to_the_first_paid_plan(life: Life) -> None:
    life.machine.call("POST", PATH, life.admin, {"planKey": "TRIAL_7D"})
    life.turn_to(f"{YEAR}-01-31T08:00:00Z")
    life.start("STARTER")
    shown = life.shows(status="ACTIVE", planKey="STARTER", recurring=True)
    assert shown["currentPeriodStart"].startswith(f"{YEAR}-01-31")
    assert shown["currentPeriodEnd"].startswith(f"{YEAR}-02-28")
    assert shown["quantities"] == {"members": 1, "featureInstances": 0}
    life.budgets_are([(f"{YEAR}-01-24", 5), (f"{YEAR}-01-31", 10)])


def test_months_that_begin_on_the_31st_each_have_their_budget(life: Life) -> None:
    life.turn_to(f"{YEAR}-04-02T00:00:00Z")
    shown = life.shows(status="ACTIVE", currentPeriodEnd=shown_end(life, f"{YEAR}-04-30"))
    assert shown["currentPeriodStart"].startswith(f"{YEAR}-03-31")
    life.budgets_are([(f"{YEAR}-01-24", 5), (f"{YEAR}-01-31", 10), (f"{YEAR}-02-28", 10), (f"{YEAR}-03-31", 10)])


def shown_end(life: Life, day: str) -> str:
    """The end of the period on that day, at the time at which it began."""
    wait_until(lambda: life.shown()["currentPeriodEnd"].startswith(day), what=f"a period until {day}")
    return str(life.shown()["currentPeriodEnd"])


def test_members_are_charged_for_from_when_they_come_until_they_go(life: Life) -> None:
    def charged() -> dict[str, int]:
        items = life.running()["items"]["data"]
        return {each["price"]["lookup_key"]: each["quantity"] for each in items}

    for user in ("max", "mia"):
        life.add_member(user)
    wait_until(lambda: 3 in charged().values(), what="three members charged")
    life.add_member("mia", enabled=False)
    wait_until(lambda: 2 in charged().values(), what="two members charged")
    assert len(life.budgets()) == 4


def test_a_card_that_runs_dry_is_past_due_and_paying_ends_that(life: Life) -> None:
    life.card_is(DECLINED)
    life.turn_to(f"{YEAR}-05-01T00:00:00Z")
    shown = life.shows(status="PAST_DUE")
    assert shown["currentPeriodStart"].startswith(f"{YEAR}-04-30")
    assert len(life.budgets()) == 4
    life.card_is(GOOD)
    life.turn_to(f"{YEAR}-05-05T12:00:00Z")
    life.shows(status="ACTIVE")
    assert life.budgets()[-1] == (f"{YEAR}-04-30", Decimal(10))
    assert len(life.budgets()) == 5


def test_a_switch_begins_when_the_old_plan_ends_and_is_not_charged_before(life: Life) -> None:
    life.start("ENTERPRISE")
    shown = life.shows(status="CANCELED", recurring=False)
    assert (shown["scheduled"]["planKey"], shown["scheduled"]["status"]) == ("ENTERPRISE", "SCHEDULED")
    assert shown["scheduled"]["effectiveFrom"] == shown["currentPeriodEnd"]
    assert len(life.budgets()) == 5
    life.turn_to(f"{YEAR}-06-02T00:00:00Z")
    shown = life.shows(status="ACTIVE", planKey="ENTERPRISE", scheduled=None)
    assert shown["currentPeriodStart"].startswith(f"{YEAR}-05-31")
    assert shown["currentPeriodEnd"].startswith(f"{NEXT}-05-31")
    wait_until(lambda: life.budgets()[-1] == (f"{YEAR}-05-31", Decimal(1000)), what="the year's budget")
    assert len(life.budgets()) == 6


def test_a_cancellation_is_taken_back_and_the_year_renews(life: Life) -> None:
    for path, status, recurring in (("cancel", "CANCELED", False), ("resume", "ACTIVE", True)):
        answer = life.machine.call("POST", f"{PATH}/{path}", life.admin)
        assert (answer["status"], answer["recurring"]) == (status, recurring)
    life.turn_to(f"{NEXT}-06-02T00:00:00Z")
    shown = life.shows(status="ACTIVE", planKey="ENTERPRISE", currentPeriodEnd=shown_end(life, f"{NEXT + 1}-05-31"))
    assert shown["recurring"] is True
    wait_until(lambda: life.budgets()[-1] == (f"{NEXT}-05-31", Decimal(1000)), what="the next year's")
    assert len(life.budgets()) == 7


def test_what_is_cancelled_ends_with_its_period(life: Life) -> None:
    assert life.machine.call("POST", f"{PATH}/cancel", life.admin)["status"] == "CANCELED"
    life.turn_to(f"{NEXT + 1}-06-02T00:00:00Z")
    shown = life.shows(status="EXPIRED", recurring=False)
    assert shown["currentPeriodEnd"].startswith(f"{NEXT + 1}-05-31")
    token = life.machine.token("--service", "life", "--scope", "usage:check")
    body = {"mandateId": MANDATE, "userId": ADMIN, "estimatedCost": {"amount": "0.01", "currency": "CHF"}}
    wait_until(
        lambda: life.machine.call("POST", "/api/billing/check", token, body)["reason"] == "NO_ACTIVE_SUBSCRIPTION",
        what="the check refused",
    )
    assert len(life.budgets()) == 7


def test_the_books_add_up_and_nothing_was_refused(life: Life) -> None:
    assert json.loads(life.machine.succeed("audit", "--json"))["ok"] is True
    assert "dead letters: 0 " in life.machine.succeed("status")
