"""The feature store upon a whole stack with the fake Stripe: a person without a mandate gets their own with a trial and
its budget, activates features, changes to a paid plan, pays for instances, is declined, gives instances up.

The tests of this module are one story, in their order, upon one stack.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import stripe

from tests.e2e.machine import Machine
from tests.support.waiting import wait_until

JO = "store-jo"
DECLINED, GOOD = "pm_card_chargeCustomerFail", "pm_card_visa"


class Store:
    """The stack, its operator and Jo, whom the directory knows and who has no mandate."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.operator = machine.token("--user", "store-operator", "--system-admin")
        machine.call("PUT", f"/api/directory/users/{JO}", self.operator, {"username": "jo", "enabled": True})
        self.jo = machine.token("--user", JO)
        identity = json.loads((machine.home / ".rappen" / "state" / "secrets.json").read_text())
        self.stripe = stripe.StripeClient(
            identity["stripe_api_key"],
            base_addresses={"api": machine.stack["stripe"]},
            http_client=stripe.HTTPXClient(allow_sync_methods=True),
        )

    def get(self, path: str) -> Any:
        return self.machine.call("GET", path, self.jo)

    @property
    def mandate(self) -> str:
        (personal,) = self.get("/api/store/mandates")
        return str(personal["id"])

    def activate(self, feature: str, *, expect: int = 200) -> Any:
        body = {"featureCode": feature, "mandateId": self.mandate}
        return self.machine.call("POST", "/api/store/activate", self.jo, body, expect=expect)

    def deactivate(self, feature: str, instance: str) -> Any:
        body = {"featureCode": feature, "mandateId": self.mandate, "instanceId": instance}
        return self.machine.call("POST", "/api/store/deactivate", self.jo, body)

    def instances(self) -> dict[str, list[str]]:
        """Jo's instances by feature."""
        found = {
            feature["featureCode"]: [each["instanceId"] for each in feature["instances"]]
            for feature in self.get("/api/store/features")
        }
        return {code: ids for code, ids in found.items() if ids}

    def charged(self) -> tuple[str, int]:
        """The status of the subscription at Stripe, and for how many instances it is charged."""
        (running,) = self.stripe.v1.subscriptions.list({"limit": 10}).data
        kinds = {item.price.lookup_key or "": item.quantity or 0 for item in running["items"].data}
        return running.status, sum(count for key, count in kinds.items() if "instance" in key)

    def card_is(self, card: str) -> None:
        """Lets another card stand behind every payment method."""
        for customer in self.stripe.v1.customers.list({"limit": 10}).data:
            for method in self.stripe.v1.customers.payment_methods.list(customer.id).data:
                url = f"{self.machine.stack['stripe']}/_control/payment_methods/{method.id}"
                assert self.machine.http("POST", url, {"card": card}).status_code == 200


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    machine = Machine(tmp_path_factory.mktemp("home"))
    try:
        machine.succeed("up", "--detach", "--empty", "--no-limits", "--workers", "1")
        yield Store(machine)
    finally:
        machine.close()


def test_a_personal_mandate_has_its_five_effects(store: Store) -> None:
    (personal,) = store.get("/api/store/mandates")
    assert personal == {"id": personal["id"], "name": "Home jo", "label": "Home jo"}
    info = store.get("/api/store/subscription-info")
    assert (info["plan"], info["status"], info["currentFeatureInstances"]) == ("TRIAL_7D", "TRIALING", 0)
    # Membership, settings, pool account and the budget of the trial, each by an event of its own.
    wait_until(
        lambda: (
            [(each["mandateId"], each["mandateName"], each["balance"]) for each in store.get("/api/billing/balance")]
            == [(personal["id"], "Home jo", 5)]
        ),
        what="the trial's budget upon the named mandate",
    )
    settings = store.get(f"/api/billing/admin/settings/{personal['id']}")
    assert settings["billingModel"] == "PREPAY_MANDATE"

    def account_types() -> list[str]:
        return sorted(each["accountType"] for each in store.get(f"/api/billing/admin/accounts/{personal['id']}"))

    wait_until(lambda: account_types() == ["MANDATE", "USER"], what="the accounts of the mandate and its member")


def test_features_are_activated_on_the_trial_up_to_its_limit(store: Store) -> None:
    made = [store.activate(feature)["instanceId"] for feature in ("chat", "chat", "automation")]
    assert store.activate("chat", expect=402)["code"] == "LIMIT_REACHED"
    assert store.instances() == {"chat": sorted(made[:2]), "automation": made[2:]}
    assert store.get("/api/store/subscription-info")["currentFeatureInstances"] == 3


def test_a_paid_plan_charges_the_instances_that_there_are(store: Store) -> None:
    path = f"/api/subscriptions/{store.mandate}"
    body = {"planKey": "STARTER", "returnUrl": "http://localhost:5173/plans"}
    answer = store.machine.call("POST", path, store.jo, body)
    control = f"{store.machine.stack['stripe']}/_control/checkout/sessions"
    session = store.machine.http("GET", control).json()[-1]
    assert session["url"] == answer["redirectUrl"]
    assert store.machine.http("POST", f"{control}/{session['id']}/pay", {"outcome": "paid"}).status_code == 200
    wait_until(lambda: store.get("/api/store/subscription-info")["plan"] == "STARTER", what="the paid plan")
    wait_until(lambda: store.charged() == ("active", 3), what="three instances charged")


def test_one_more_instance_is_paid_before_it_is_active(store: Store) -> None:
    before = len(store.stripe.v1.invoices.list({"limit": 100}).data)
    instance = store.activate("transcription")["instanceId"]
    assert store.charged() == ("active", 4)
    invoices = store.stripe.v1.invoices.list({"limit": 100}).data
    assert len(invoices) == before + 1
    assert invoices[0].status == "paid"
    assert store.instances()["transcription"] == [instance]


def test_a_declined_payment_leaves_nothing_behind(store: Store) -> None:
    store.card_is(DECLINED)
    refusal = store.activate("image-studio", expect=402)
    assert refusal["code"] == "PAYMENT_DECLINED"
    wait_until(lambda: store.get("/api/store/subscription-info")["currentFeatureInstances"] == 4, what="it taken back")
    assert store.charged() == ("active", 4)
    assert "image-studio" not in store.instances()
    store.card_is(GOOD)
    assert store.activate("image-studio")["activated"] is True
    assert store.charged() == ("active", 5)


def test_what_is_given_up_is_charged_no_more(store: Store) -> None:
    for feature, instances in store.instances().items():
        for instance in instances:
            assert store.deactivate(feature, instance)["instanceDeleted"] is True
    assert store.instances() == {}
    wait_until(lambda: store.charged() == ("active", 0), what="nothing charged for instances")
    assert store.get("/api/store/subscription-info")["currentFeatureInstances"] == 0


def test_the_books_add_up_and_nothing_was_refused(store: Store) -> None:
    checks = json.loads(store.machine.succeed("audit", "--json"))
    assert checks
    (balance,) = store.get("/api/billing/balance")
    assert balance["balance"] >= Decimal(0)
    for service in ("subscriptions", "gateway"):
        assert "UNPROCESSABLE" not in store.machine.succeed("dlq", "list", "--service", service)
