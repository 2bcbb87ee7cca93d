"""A round of the demo's scenario upon a whole stack, as `rappen simulate --scenario` runs it: what it tells of happened
in the ledger, at payments and in subscriptions, while usage went on, and the books add up.

The tests of this module are one story, in their order, upon one stack.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from deploy.local.identity import describe_issuer, ensure_issuer_key
from deploy.local.ports import free_port
from deploy.simulator.platform import Platform, PlatformError
from deploy.simulator.scenario.cast import cast_of
from deploy.simulator.scenario.run import Scenario, ScenarioOptions
from deploy.simulator.scenario.steps import Told
from deploy.simulator.scenario.world import ScenarioError, World
from deploy.simulator.tenants import TENANTS
from tests.e2e.machine import Machine

# Starting takes longest, and how long depends on what else the machine does.
pytestmark = pytest.mark.timeout(300)

CAST = cast_of(1)


class Demo:
    """The stack after a round, and what was printed meanwhile."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        words = ("--rate", "5", "--scenario", "--rounds", "1", "--pace", "0")
        self.printed = machine.succeed("simulate", *words)

    def rows(self, service: str, statement: str, *values: object) -> list[dict[str, Any]]:
        """What a service has."""

        async def read() -> list[Any]:
            connection = await asyncpg.connect(self.machine.stack["postgres"][service])
            try:
                return list(await connection.fetch(statement, *values))
            finally:
                await connection.close()

        return [dict(row) for row in asyncio.run(read())]

    def movements(self, mandate_id: str, kind: str) -> list[Decimal]:
        """The amounts of one kind in a mandate's ledger, the oldest first, in CHF."""
        rows = self.rows(
            "billing",
            "SELECT t.amount FROM billing.transactions t JOIN billing.mandates m ON m.no = t.mandate_no"
            " WHERE m.id = $1 AND t.reference_type = $2 ORDER BY t.recorded_at, t.occurred_at",
            mandate_id,
            kind,
        )
        return [Decimal(row["amount"]).scaleb(-6) for row in rows]

    def states(self, mandate_id: str) -> list[tuple[str, str]]:
        """Through which states a mandate's plans went, in their order."""
        rows = self.rows(
            "subscriptions",
            "SELECT s.plan_key, t.to_state FROM subscriptions.transitions t"
            " JOIN subscriptions.subscriptions s ON s.id = t.subscription_id"
            " WHERE s.mandate_id = $1 ORDER BY t.recorded_at, t.version",
            mandate_id,
        )
        return [(row["plan_key"], row["to_state"]) for row in rows]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    machine = Machine(tmp_path_factory.mktemp("home"))
    try:
        # The demo's tenants are made by the simulation, which finds none.
        machine.succeed("up", "--detach", "--empty", "--no-limits", "--workers", "1")
        yield Demo(machine)
    finally:
        machine.close()


def test_the_ledger_has_what_was_paid_recharged_refunded_and_given(demo: Demo) -> None:
    subscriber, trial, invoiced = (tenant.id for tenant in CAST.tenants)
    assert demo.movements(subscriber, "PAYMENT") == [20, 50, 20, -15]
    assert demo.movements(subscriber, "SUBSCRIPTION") == [10, 10]
    assert demo.movements(trial, "PAYMENT") == []
    # What is left of a trial's budget ends with the trial.
    assert demo.movements(trial, "SUBSCRIPTION") == [5, -5, 10]
    (paid,) = demo.movements(invoiced, "PAYMENT")
    assert Decimal("71.99") < paid < Decimal("72.01")
    recharges = demo.rows(
        "billing",
        "SELECT r.state FROM billing.recharges r JOIN billing.mandates m ON m.no = r.mandate_no WHERE m.id = $1"
        " ORDER BY r.requested_at",
        subscriber,
    )
    assert [row["state"] for row in recharges] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]


def test_payments_has_them_too(demo: Demo) -> None:
    paid = demo.rows("payments", "SELECT mandate_id, reason FROM payments.payments ORDER BY recorded_at")
    assert [(row["mandate_id"], row["reason"]) for row in paid] == [
        (CAST.subscriber.id, "recharge"),
        (CAST.subscriber.id, "top_up"),
        (CAST.subscriber.id, "recharge"),
        (CAST.invoiced.id, "invoice"),
    ]
    declined = demo.rows("payments", "SELECT mandate_id FROM payments.recharges WHERE decline_code IS NOT NULL")
    assert [row["mandate_id"] for row in declined] == [CAST.subscriber.id]
    refunds = demo.rows("payments", "SELECT kind, state, amount FROM payments.refunds")
    assert [(row["kind"], row["state"], row["amount"]) for row in refunds] == [("REFUND", "TAKEN", 15)]


def test_subscriptions_went_through_their_states_and_features_are_active(demo: Demo) -> None:
    states = demo.states(CAST.subscriber.id)
    assert (states[:2], states[-1]) == ([("STARTER", "PENDING"), ("STARTER", "ACTIVE")], ("STARTER", "CANCELED"))
    states = demo.states(CAST.trial.id)
    assert states[:4] == [
        ("TRIAL_7D", "TRIALING"),
        ("TRIAL_7D", "EXPIRED"),
        ("STARTER", "PENDING"),
        ("STARTER", "ACTIVE"),
    ]
    assert states[-1] == ("STARTER", "CANCELED")
    active = demo.rows("subscriptions", "SELECT mandate_id, feature_code, state FROM subscriptions.activations")
    assert sorted((row["mandate_id"], row["feature_code"], row["state"]) for row in active) == [
        (CAST.subscriber.id, "automation", "ACTIVE"),
        (CAST.subscriber.id, "chat", "ACTIVE"),
    ]


def test_a_demo_tenant_whose_trial_ended_by_it_has_a_plan_and_the_usage_went_on(demo: Demo) -> None:
    (on_trial,) = [tenant for tenant in TENANTS if tenant.plan is not None]
    assert ("TRIAL_7D", "EXPIRED") in demo.states(on_trial.id)
    assert demo.states(on_trial.id)[-1] == ("STARTER", "ACTIVE")
    for tenant in TENANTS:
        assert demo.movements(tenant.id, "WORKFLOW") != []


def test_it_was_told_in_words_without_a_terminal(demo: Demo) -> None:
    told = [line.partition(" * ")[2] for line in demo.printed.splitlines() if " * " in line]
    subscriber, trial, invoiced = (tenant.label for tenant in CAST.tenants)
    assert told[0] == f"new customers: {subscriber}, {trial}, {invoiced}"
    for who, words in (
        (subscriber, "subscribed to Starter and paid CHF 19.00 by card; CHF 10.00 to spend"),
        (subscriber, "spent CHF 9.50, was low, and was recharged automatically: CHF 20.00"),
        (subscriber, "has used up its credit: its people's AI calls are refused"),
        (subscriber, "paid CHF 50.00 with another card, and works again"),
        (trial, "8 days later its trial is over, and calls are refused"),
        (subscriber, "got CHF 15.00 of its payment back; its credit is lower by that"),
    ):
        assert f"{who}: {words}" in told
    assert "FAILED" not in demo.printed
    assert "DECLINED" in demo.printed


def test_the_books_add_up_and_everybody_agrees(demo: Demo) -> None:
    assert json.loads(demo.machine.succeed("audit", "--json"))["ok"] is True
    begun = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    reconciled = json.loads(demo.machine.succeed("reconcile", "--json", "--from", begun))
    assert reconciled["differences"] == []
    for service in ("subscriptions", "payments", "gateway"):
        assert demo.rows(service, f"SELECT * FROM {service}.quarantine") == []


@pytest.fixture
async def nowhere(tmp_path: Path) -> AsyncIterator[World]:
    """A stack that is not there."""
    address = f"http://127.0.0.1:{free_port()}"
    issuer = describe_issuer(ensure_issuer_key(tmp_path / "key.pem"))
    stack = {"gateway": address, "stripe": address, "mail": address, "clock_file": tmp_path / "clock", "issuer": issuer}
    async with httpx.AsyncClient(trust_env=False) as client:
        yield World(stack, client, Platform(client, stack), patience_s=0)


async def test_what_does_not_happen_is_told_in_words_and_it_goes_on(nowhere: World) -> None:
    told: asyncio.Queue[tuple[Told, bool]] = asyncio.Queue()
    scenario = Scenario(
        nowhere,
        ScenarioOptions(),
        enter=lambda cast: pytest.fail(f"{cast} cannot be there"),
        tell=lambda what, failed: told.put_nowait((what, failed)),
    )
    running = asyncio.create_task(scenario.run())
    what, failed = await told.get()
    assert failed
    assert "no answer (ConnectError); see rappen status and .rappen/log" in what.text
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})


async def test_a_run_of_so_many_rounds_fails_with_the_round(nowhere: World) -> None:
    scenario = Scenario(nowhere, ScenarioOptions(rounds=1), enter=lambda _: None, tell=lambda *_: None)
    with pytest.raises(PlatformError, match="no answer"):
        await scenario.run()


async def test_what_is_waited_for_in_vain_is_named(nowhere: World) -> None:
    async def never() -> bool:
        return False

    with pytest.raises(ScenarioError, match="the moon is full: that did not happen within 0 s"):
        await nowhere.happens("the moon is full", never)


def test_no_two_rounds_have_the_same_tenants_or_people() -> None:
    tenants = [tenant for number in range(1, 30) for tenant in cast_of(number).tenants]
    assert len({tenant.id for tenant in tenants}) == len({tenant.label for tenant in tenants}) == len(tenants)
    assert len({tenant.admin.id for tenant in tenants}) == len(tenants)
