"""Warnings against the rule: an event for each fall of a balance to or under its threshold, and none beside; and the
rule in SQL against the one in Python.

The real use cases work on a real PostgreSQL, without Kafka. What is expected follows from the accounts before and after
each step by the rule in Python.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rappen_contracts.types import NonNegativeBalance
from services.billing.audit import audit
from services.billing.charging.charge_usage import ChargeUsage
from services.billing.credits.post_manual_credit import ManualCredit, post_manual_credit
from services.billing.ledger.domain import BillingModel
from services.billing.ledger.thresholds import IS_LOW, THRESHOLD, is_warning, low_at, warning_threshold
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.mandates.change_settings import change_settings
from services.billing.mandates.errors import ModelUnchanged
from services.billing.mandates.set_terms import set_terms
from services.billing.mandates.switch_model import switch_model
from services.chassis.caller import Caller
from services.chassis.faults import FaultPoints
from tests.support.charging import received
from tests.support.databases import on_driver
from tests.support.directory import directory_events
from tests.support.events import RawRecord, usage_record, voided_record
from tests.support.invoicing import SPANS
from tests.support.machines import World, empty_ledger, run_until_reached

START = datetime(2026, 1, 1, tzinfo=UTC)
ADMIN = Caller(user_id="system-admin", system_admin=True)
USERS = ("user-0", "user-1")
MODELS: tuple[BillingModel, ...] = ("PREPAY_MANDATE", "PREPAY_USER", "CREDIT_POSTPAY", "UNLIMITED")
MAX = Decimal(100_000)
ROWS = "SELECT $1::bigint AS seq, $2::text AS type, $3::bigint AS balance, $4::bigint AS credit_limit,"
ROWS += " $5::bigint AS balance_after_last_credit"
TERMS = "SELECT $6::text AS billing_model, $7::numeric AS warning_threshold_percent"
# An account and the mandate it is of, as everything else of the test knows them.
ACCOUNTS = (
    "SELECT a.no, a.type, a.user_id, a.balance, a.credit_limit, a.balance_after_last_credit, a.seq, a.low, a.crossings,"
    " m.billing_model, m.warning_threshold_percent, m.notify_on_warning FROM accounts a JOIN mandates m"
    " ON m.no = a.mandate_no WHERE m.id = $1 AND a.type IN ('MANDATE', 'USER')"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An empty ledger on a PostgreSQL of its own."""
    with empty_ledger(tmp_path_factory.mktemp("postgres"), generic_plans=True) as made:
        yield made


amounts = st.integers(-(3 * 10**18), 3 * 10**18) | st.integers(-200, 200)


@dataclass
class Case:
    """An account in a mandate; `beside` moves the balance to its threshold or one micro-franc beside it, where one way
    of rounding differs from another."""

    model: BillingModel
    kind: str
    percent: Decimal
    balance: int
    after_credit: int
    limit: int | None
    beside: int | None
    seq: int


cases = st.builds(
    Case,
    model=st.sampled_from(MODELS),
    kind=st.sampled_from(["MANDATE", "USER"]),
    percent=st.decimals(0, 100, places=2)
    | st.decimals(0, 100, places=24)
    | st.sampled_from([Decimal(0), Decimal(100)]),
    balance=amounts,
    after_credit=amounts,
    limit=st.none() | st.integers(0, 10**18) | st.integers(0, 200),
    beside=st.sampled_from([None, -1, 0, 1]),
    seq=st.integers(0, 2),
)


@given(case=cases)
@settings(max_examples=400, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_the_rule_in_sql_is_the_one_in_python(world: World, case: Case) -> None:
    model, limit, balance = case.model, case.limit, case.balance
    threshold = warning_threshold(model, case.percent, case.after_credit, limit)
    if case.beside is not None:
        balance = threshold + case.beside - ((limit or 0) if model == "CREDIT_POSTPAY" else 0)
    values = (case.seq, case.kind, balance, limit, case.after_credit, model, case.percent)

    async def in_sql() -> Sequence[Any]:
        names = {"a": "a", "m": "m"}
        statement = f"SELECT {IS_LOW.format(**names)}, {THRESHOLD.format(**names)} FROM ({ROWS}) a, ({TERMS}) m"
        async with on_driver(world.database) as driver:
            return tuple(await driver.fetchrow(statement, *values))

    low, value = world.wait(in_sql())
    looked_at = {"PREPAY_USER": "USER", "UNLIMITED": None}.get(model, "MANDATE")
    assert low is (case.seq > 0 and case.kind == looked_at and is_warning(model, balance, threshold, limit))
    # What a charge knows of an account without looking again.
    lowest = low_at(case.kind, model, None if value is None else int(value), limit)
    assert low is (case.seq > 0 and lowest is not None and balance <= lowest)
    if model != "UNLIMITED" and not (model == "CREDIT_POSTPAY" and limit is None):
        assert value == threshold


@dataclass
class Used:
    """Usage of a member, in micro-CHF before markup, and whether it is cancelled by the same batch."""

    user: str
    amount: int
    cancelled: bool
    event_id: UUID


usages = st.builds(
    Used,
    user=st.sampled_from(USERS),
    amount=st.integers(0, 12_000_000),
    cancelled=st.sampled_from([False, False, True]),
)


class WarningsMachine(RuleBasedStateMachine):
    """Moves one mandate's money in every way, and expects what the rule says."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.mandate = f"mandate-{uuid4()}"
        self.now = START
        self.charge = ChargeUsage(
            world.database, default_markup=Decimal(0), clock=lambda: self.now, faults=FaultPoints(None)
        )
        self.low: dict[int, bool] = {}
        self.crossings: Counter[int] = Counter()
        self.mailed: dict[int, datetime] = {}
        # By account: whether each event that is expected says that a mail is due.
        self.expected: list[tuple[int, int, bool]] = []

    @initialize()
    def begin(self) -> None:
        """Two members and an address, without which there is no postpaid model."""
        world = self.world
        apply = ApplyDirectory(world.database, clock=lambda: self.now)
        world.wait(apply(directory_events(self.mandate, {user: ["member"] for user in USERS}), []))
        self._set(billingAddress={"company": "x", "country": "CH"}, defaultUserCredit=Decimal(4))

    @rule(batch=st.lists(usages, min_size=1, max_size=6))
    def use(self, batch: list[Used]) -> None:
        """A batch of usage, some of which it takes back itself: that warns nobody."""
        records: list[RawRecord] = []
        for used in batch:
            amount = format(Decimal(used.amount).scaleb(-6), "f")
            records.append(usage_record(self.mandate, used.user, amount=amount, event_id=used.event_id, at=START))
            if used.cancelled:
                records.append(voided_record(self.mandate, used.event_id, at=START))
        self.world.seen["taken back"] += any(used.cancelled for used in batch)
        self.world.wait(self.charge(received(records, now=START), []))

    @rule(user=st.sampled_from(USERS), amount=st.decimals(-20, 40, places=2))
    def credit(self, user: str, amount: Decimal) -> None:
        """A manual credit or deduction."""
        if amount:
            credit = ManualCredit(user, amount, "machine", None)
            self.world.wait(self._write(post_manual_credit, credit))

    @rule(percent=st.sampled_from([0, 10, 50, 100]))
    def change_percent(self, percent: int) -> None:
        """Another threshold, which counts at once."""
        self._set(warningThresholdPercent=Decimal(percent))

    @rule(notify=st.booleans())
    def change_notify(self, notify: bool) -> None:
        """Without warnings wanted, the event is published all the same."""
        self._set(notifyOnWarning=notify)

    @rule(limit=st.none() | st.integers(0, 40))
    def change_limit(self, limit: int | None) -> None:
        """Another credit limit, which counts at once."""
        money = None if limit is None else NonNegativeBalance(amount=Decimal(limit), currency="CHF")
        self.world.wait(
            set_terms(
                self.world.database,
                self.mandate,
                markup_percent=None,
                credit_limit=money,
                limit_max=MAX,
                caller=ADMIN,
                clock=lambda: self.now,
            )
        )

    @rule(model=st.sampled_from(MODELS))
    def switch(self, model: BillingModel) -> None:
        """A switch of the billing model, which looks at other accounts."""
        try:
            self.world.wait(self._write(partial(switch_model, spans=SPANS), model))
        except ModelUnchanged:
            return
        self.world.seen["switches"] += 1

    @rule(minutes=st.integers(1, 90))
    def wait(self, minutes: int) -> None:
        """Time passes, so that a mail may be due again."""
        self.now += timedelta(minutes=minutes)

    @invariant()
    def compare(self) -> None:
        """Each account that has become low since the last step has an event, and no other has one."""
        self.world.wait(self._compare())

    def _set(self, **values: Any) -> None:
        self.world.wait(
            change_settings(
                self.world.database, self.mandate, values, caller=ADMIN, amount_max=MAX, clock=lambda: self.now
            )
        )

    async def _write(self, work: Any, argument: object) -> None:
        async with self.world.database.transaction() as connection:
            async with on_driver(self.world.database) as driver:
                number = await driver.fetchval("SELECT no FROM mandates WHERE id = $1", self.mandate)
            await work(connection, number, argument, caller=ADMIN, now=self.now)

    async def _compare(self) -> None:
        async with on_driver(self.world.database) as driver:
            rows = await driver.fetch(ACCOUNTS, self.mandate)
            told = await driver.fetch("SELECT data, event_id FROM outbox WHERE topic = 'balance.low' ORDER BY id")
            failing = [check.name for check in await audit(driver) if check.failing_count]
        for row in rows:
            self._follow(dict(row))
        events = [json.loads(row["data"]) for row in told]
        mine = [each for each in events if each["mandate_id"] == self.mandate]
        found = [(int(each["account_id"]), each["crossing"], each["mail"]) for each in mine]
        assert sorted(found) == sorted(self.expected)
        assert len({row["event_id"] for row in told}) == len(told)
        assert failing == []

    def _follow(self, row: dict[str, Any]) -> None:
        model, limit, no = row["billing_model"], row["credit_limit"], row["no"]
        threshold = warning_threshold(model, row["warning_threshold_percent"], row["balance_after_last_credit"], limit)
        looked_at = row["type"] == {"PREPAY_USER": "USER", "UNLIMITED": None}.get(model, "MANDATE") and row["seq"] > 0
        low = looked_at and is_warning(model, row["balance"], threshold, limit)
        if low and not self.low.get(no, False):
            self.crossings[no] += 1
            mail = row["notify_on_warning"] and self.now - self.mailed.get(no, datetime.min.replace(tzinfo=UTC)) >= (
                timedelta(hours=1)
            )
            if mail:
                self.mailed[no] = self.now
            self.expected.append((no, self.crossings[no], mail))
            self.world.seen["mails" if mail else "without a mail"] += 1
        elif self.low.get(no, False) and not low:
            self.world.seen["armed again"] += 1
        self.low[no] = low
        assert (row["low"], row["crossings"]) == (low, self.crossings[no])


def test_there_is_one_event_for_each_fall_under_the_threshold_and_no_other(world: World) -> None:
    machine: Any = lambda: WarningsMachine(world)  # noqa: E731 - Hypothesis wants something to call.
    reached = ("mails", "without a mail", "armed again", "switches", "taken back")
    run_until_reached(machine, world, reached, runs=25, steps=25)
