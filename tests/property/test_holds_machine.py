"""Holds against a model of them: held, captured, voided, expired, named by usage that may be cancelled, switched,
repeated, in any order.

The real use cases work on a real PostgreSQL, without HTTP and Kafka. After every step each balance, what is held on
each account, what a check sees of it and the state of each hold are what the model says, and the audit finds nothing.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rappen_contracts.types import NonNegativeMoney
from services.billing.audit import audit
from services.billing.charging.charge_usage import ChargeUsage
from services.billing.checks.authorize_holds import AuthorizeHolds, HoldRequest
from services.billing.checks.capture_holds import CaptureHolds
from services.billing.checks.check_funds import CheckFunds, Question
from services.billing.checks.errors import CapturedAlready, HoldExpired, HoldRefused, HoldVoided
from services.billing.checks.release_holds import ReleaseHolds
from services.billing.checks.together import Together
from services.billing.checks.void_hold import void
from services.billing.corrections.reverse_charge import cancel_event
from services.billing.credits.post_manual_credit import ManualCredit, post_manual_credit
from services.billing.ledger.domain import BillingModel
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.mandates.domain import share_equally
from services.billing.mandates.switch_model import switch_model
from services.billing.pricing.repository import Tariffs
from services.billing.settings import BillingSettings
from services.chassis.caller import Caller
from services.chassis.database import driver_connection
from services.chassis.faults import FaultPoints
from services.chassis.problems import Problem
from tests.support.charging import received
from tests.support.databases import on_driver
from tests.support.directory import directory_events
from tests.support.events import RawRecord, usage_record, voided_record
from tests.support.invoicing import SPANS
from tests.support.limiting import Limiting
from tests.support.machines import Crash, CrashPoint, World, empty_ledger, run_until_reached
from tests.support.model_holds import Hold
from tests.support.records import received_record

T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)
ADMIN = Caller(user_id="system-admin", system_admin=True)
USERS = ("user-0", "user-1")
MANDATES = 2
OPENING_CREDIT = 10_000_000
# Even, so that half as much again, which is the markup, is a whole number too.
costs = st.integers(0, 4_000_000).map(lambda half: 2 * half)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty ledger."""
    with empty_ledger(tmp_path, generic_plans=True) as made:
        yield made


class HoldsMachine(RuleBasedStateMachine):
    """Does to the service and to the model the same."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.run = uuid4().hex[:12]
        self.now = START
        self.holds: dict[UUID, Hold] = {}
        self.models: list[BillingModel] = ["PREPAY_MANDATE"] * MANDATES
        self.balances: defaultdict[tuple[int, str], int] = defaultdict(int)
        self.opened: set[int] = set()
        # By mandate and event: the account that was charged, and how much; and what is cancelled, charged or not.
        self.charged: dict[tuple[int, UUID], tuple[tuple[int, str], int]] = {}
        self.cancelled: set[tuple[int, UUID]] = set()
        self.faults = CrashPoint()
        database, together, tariffs = world.database, Together(), Tariffs()
        self.check = CheckFunds(database, tariffs, BillingSettings.model_construct(), self._clock)
        self.authorize = AuthorizeHolds(database, together, self.check, tariffs, clock=self._clock, faults=self.faults)
        self.capture_hold = CaptureHolds(
            database, together, default_markup=Decimal(50), clock=self._clock, faults=self.faults
        )
        self.charge = ChargeUsage(database, default_markup=Decimal(50), clock=self._clock, faults=FaultPoints(None))

    def _clock(self) -> datetime:
        return self.now

    @initialize()
    def begin(self) -> None:
        """Two mandates with members, money and holds, one of them with a budget for each member."""
        apply = ApplyDirectory(self.world.database, clock=self._clock)
        for mandate in range(MANDATES):
            self.world.wait(apply(directory_events(self._id(mandate), {user: ["member"] for user in USERS}), []))
            self.credit(mandate, USERS[0], 9)
            # They refuse nothing here; what counts towards them is for the audit to look at.
            limiting = Limiting(self.world.database, self._id(mandate), self.now)
            self.world.wait(limiting.set(*(("member", user, "month", "9e6") for user in USERS)))
        self.switch(1, "PREPAY_USER")
        # Some at once, because a run may leave out any of the rules.
        for number in range(8):
            self.hold(number % 2, USERS[number // 4], 500_000, 10 ** (1 + number % 3), False)
        self.hold(0, USERS[0], 99_000_000, 10, False)

    @rule(mandate=st.integers(0, MANDATES - 1), user=st.sampled_from(USERS), francs=st.integers(-3, 9))
    def credit(self, mandate: int, user: str, francs: int) -> None:
        """A manual credit or deduction."""
        if not francs:
            return
        credit = ManualCredit(user, Decimal(francs), "machine", None)

        async def give() -> None:
            async with self.world.database.transaction() as connection:
                await post_manual_credit(
                    connection, await self._no(connection, mandate), credit, caller=ADMIN, now=self.now
                )

        self.world.wait(give())
        self.balances[self._account(mandate, user)] += francs * 1_000_000

    @rule(
        mandate=st.integers(0, MANDATES - 1),
        user=st.sampled_from(USERS),
        amount=st.integers(0, 9_000_000),
        ttl_s=st.sampled_from([1, 20, 100, 3600]),
        repeated=st.booleans(),
    )
    def hold(self, mandate: int, user: str, amount: int, ttl_s: int, repeated: bool) -> None:
        """A hold, given where the balance less what is held covers it; its repeat is the same."""
        account = self._account(mandate, user)
        left = self.balances[account] - self._held(account)
        request = HoldRequest(
            question=Question(self._id(mandate), user, Decimal(amount).scaleb(-6), None, None),
            ttl_s=ttl_s,
            actor="machine",
            key=uuid4().hex if repeated else None,
            body=f"{amount} {ttl_s}",
        )
        if left <= 0 or left < amount:
            with pytest.raises(HoldRefused):
                self.world.wait(self.authorize(request))
            self.world.seen["refused"] += 1
            return
        made = self.world.wait(self.authorize(request))
        assert Decimal(made["balanceAfterHold"]["amount"]).scaleb(6) == left - amount
        if repeated:
            assert self.world.wait(self.authorize(request)) == made
        self.holds[UUID(made["holdId"])] = Hold(mandate, user, amount, self.now + timedelta(seconds=ttl_s))
        self.world.seen["held"] += 1

    @rule(data=st.data(), cost=costs, crash=st.sampled_from([None, "capture_before_commit", "capture_after_commit"]))
    def capture(self, data: st.DataObject, cost: int, crash: str | None) -> None:
        """A capture by cost, of a hold in whatever state; it may have to be asked for again."""
        if self.holds:
            id_ = data.draw(st.sampled_from(list(self.holds)))
            given = NonNegativeMoney(amount=Decimal(cost).scaleb(-6), currency="CHF")
            self._settle(id_, id_, cost, lambda: self.capture_hold(id_, given), crash)

    @rule()
    def capture_again(self) -> None:
        """Each capture by cost once more, with the same cost."""
        for id_, hold in list(self.holds.items()):
            if hold.usage is not None and hold.usage[0] == id_:
                given = NonNegativeMoney(amount=Decimal(hold.usage[1]).scaleb(-6), currency="CHF")
                self._settle(id_, id_, hold.usage[1], partial(self.capture_hold, id_, given), None)

    @rule(data=st.data(), cost=costs, named=st.booleans(), user=st.sampled_from(USERS))
    def capture_by_event(self, data: st.DataObject, cost: int, named: bool, user: str) -> None:
        """A capture by an event, which need not be of the hold's own member."""
        if self.holds:
            id_ = data.draw(st.sampled_from(list(self.holds)))
            record = self._record(self.holds[id_].mandate, user, cost, uuid4(), id_ if named else None)
            event = received_record("usage.recorded", record, now=self.now).event
            self._settle(id_, event.id, cost, lambda: self.capture_hold(id_, event), None, user=user)

    def _settle(
        self, id_: UUID, event_id: UUID, cost: int, ask: Any, crash: str | None, *, user: str | None = None
    ) -> None:
        hold = self.holds[id_]
        state = hold.state_at(self.now)
        if state == "CAPTURED" and hold.usage == (event_id, cost):
            self.world.seen["repeated"] += 1
        elif state != "OPEN":
            refused = {"CAPTURED": CapturedAlready, "VOIDED": HoldVoided, "EXPIRED": HoldExpired}[state]
            with pytest.raises(refused):
                self.world.wait(ask())
            self.world.seen[f"not captured, {state}"] += 1
            return
        elif crash is not None:
            self.faults.armed = crash
            with pytest.raises(Crash):
                self.world.wait(ask())
            self.world.seen["crashed"] += 1
        answer = self.world.wait(ask())
        assert Decimal(answer["amount"]["amount"]).scaleb(6) == cost * 3 // 2
        if state == "OPEN":
            self._spend(hold.mandate, user or hold.user, event_id, cost)
            hold.state, hold.usage = "CAPTURED", (event_id, cost)
            self.world.seen["captured"] += 1

    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        """A void, of a hold in whatever state, after which nothing captures it."""
        if not self.holds:
            return
        id_ = data.draw(st.sampled_from(list(self.holds)))
        hold = self.holds[id_]
        refused: dict[str, type[Problem]] = {"CAPTURED": CapturedAlready, "EXPIRED": HoldExpired}
        state = hold.state_at(self.now)
        if state in refused:
            with pytest.raises(refused[state]):
                self.world.wait(void(self.world.database, id_, clock=self._clock))
        else:
            self.world.wait(void(self.world.database, id_, clock=self._clock))
            hold.state = "VOIDED"
            self.world.seen["voided"] += 1
            self._refused(id_)

    @rule(
        data=st.data(),
        uses=st.lists(
            st.tuples(st.integers(0, MANDATES - 1), st.sampled_from(USERS), costs, st.booleans()), max_size=6
        ),
    )
    def use(self, data: st.DataObject, uses: list[tuple[int, str, int, bool]]) -> None:
        """A batch of usage that names holds of any mandate and state, some of it cancelled, and comes twice."""
        ids = [None, uuid4(), *self.holds]
        batch = []
        for mandate, user, cost, cancelled in uses:
            named, event_id = data.draw(st.sampled_from(ids)), uuid4()
            batch.append(self._record(mandate, user, cost, event_id, named))
            if cancelled:
                batch.insert(data.draw(st.integers(0, len(batch))), self._void_record(mandate, event_id))
                self.cancelled.add((mandate, event_id))
            self._spend(mandate, user, event_id, cost)
            hold = self.holds.get(named) if named is not None else None
            if hold is not None and hold.mandate == mandate and hold.state_at(self.now) == "OPEN":
                hold.state, hold.usage = "CAPTURED", (event_id, cost)
                self.world.seen["settled by usage"] += 1
        self.world.wait(self.charge(received(batch, now=self.now), []))
        self.world.wait(self.charge(received(batch[::-1], now=self.now), []))

    @rule(data=st.data(), by_word=st.booleans())
    def cancel(self, data: st.DataObject, by_word: bool) -> None:
        """A cancellation, of usage that was charged, of what a hold may be captured by, or of what never comes."""
        holds = [(hold.mandate, id_) for id_, hold in self.holds.items()]
        self._cancel(*data.draw(st.sampled_from([(0, uuid4()), *holds, *self.charged])), by_word=by_word)

    def _cancel(self, mandate: int, event_id: UUID, *, by_word: bool) -> None:
        if by_word:
            work = cancel_event(self.world.database, self._id(mandate), event_id, "by word", clock=self._clock)
            _, amount = self.charged.get((mandate, event_id), (None, None))
            expected = "awaited" if amount is None else "reversed" if amount else "free"
            assert self.world.wait(work).state == expected
        else:
            self.world.wait(self.charge(received([self._void_record(mandate, event_id)] * 2, now=self.now), []))
        self._give_back(mandate, event_id)

    def _spend(self, mandate: int, user: str, event_id: UUID, cost: int) -> None:
        account, amount = self._account(mandate, user), cost * 3 // 2
        self.charged[mandate, event_id] = account, amount
        if (mandate, event_id) in self.cancelled:
            self.world.seen["cancelled before"] += 1
        else:
            self.balances[account] -= amount

    def _give_back(self, mandate: int, event_id: UUID) -> None:
        """The money is where it would be if a switch of the model had found it on the account that was charged."""
        account, amount = self.charged.get((mandate, event_id), (None, 0))
        if (mandate, event_id) in self.cancelled:
            return
        self.cancelled.add((mandate, event_id))
        if account is None:
            return
        self.world.seen["reversed"] += 1
        if self.models[mandate] != "PREPAY_USER":
            self.world.seen["passed on"] += account[1] != "pool"
            self.balances[mandate, "pool"] += amount
        elif account[1] != "pool":
            self.balances[account] += amount
        else:
            self.world.seen["shared"] += 1
            for user, part in zip(USERS, share_equally(amount, len(USERS)), strict=True):
                self.balances[mandate, user] += part

    @rule(seconds=st.integers(1, 60))
    def pass_time(self, seconds: int) -> None:
        """Time goes on."""
        self.now += timedelta(seconds=seconds)

    @rule()
    def release(self) -> None:
        """The job that gives back what is due, which nothing captures any more."""
        due = sum(hold.state == "OPEN" and hold.expires_at <= self.now for hold in self.holds.values())
        assert self.world.wait(ReleaseHolds(self.world.database, clock=self._clock)()) >= due
        for id_, hold in self.holds.items():
            hold.state = hold.state_at(self.now)
            if hold.state == "EXPIRED":
                self._refused(id_)
        self.world.seen["released"] += due

    def _refused(self, id_: UUID) -> None:
        given = NonNegativeMoney(amount=Decimal(1), currency="CHF")
        self._settle(id_, id_, 1_000_000, partial(self.capture_hold, id_, given), None)

    @rule(
        mandate=st.integers(0, MANDATES - 1),
        model=st.sampled_from(["PREPAY_MANDATE", "PREPAY_USER"]),
        by_word=st.booleans(),
    )
    def switch_and_cancel(self, mandate: int, model: BillingModel, by_word: bool) -> None:
        """After a switch captures are answered as before, and usage of before is taken back."""
        self.switch(mandate, model)
        self.capture_again()
        before = [key for key in self.charged if key[0] == mandate and key not in self.cancelled]
        if before:
            self._cancel(*before[-1], by_word=by_word)

    def switch(self, mandate: int, model: BillingModel) -> None:
        """A switch of the billing model moves the money, and what is held with it."""
        if self.models[mandate] == model:
            return

        async def change() -> None:
            async with self.world.database.transaction() as connection:
                await switch_model(
                    connection, await self._no(connection, mandate), model, spans=SPANS, caller=ADMIN, now=self.now
                )

        self.world.wait(change())
        pool, own = (mandate, "pool"), [(mandate, user) for user in USERS]
        if model == "PREPAY_USER":
            for account, part in zip(own, share_equally(self.balances[pool], len(own)), strict=True):
                self.balances[account] += part + (OPENING_CREDIT if mandate not in self.opened else 0)
            self.balances[pool] = 0
            self.opened.add(mandate)
        else:
            self.balances[pool] += sum(self.balances[account] for account in own)
            self.balances |= dict.fromkeys(own, 0)
        self.models[mandate] = model
        self.world.seen["switched"] += 1

    @invariant()
    def compare(self) -> None:
        """Everything the model knows is so, and the audit finds nothing."""
        self.world.wait(self._compare())

    async def _compare(self) -> None:
        async with on_driver(self.world.database) as connection:
            accounts = await connection.fetch(
                "SELECT m.id, a.user_id, a.balance, a.held FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
                " WHERE m.id LIKE $1 AND a.type IN ('MANDATE', 'USER')",
                f"{self.run}-%",
            )
            holds = await connection.fetch(
                "SELECT id, state, settled_by FROM holds WHERE id = ANY($1)", list(self.holds)
            )
            failing = [check for check in await audit(connection) if check.failing_count]
        assert failing == []
        for row in accounts:
            account = int(row["id"].rpartition("-")[2]), row["user_id"] or "pool"
            assert row["balance"] == self.balances[account], account
            assert row["held"] == self._held(account, due=True), account
        for row in holds:
            hold = self.holds[row["id"]]
            assert (row["state"], row["settled_by"]) == (hold.state, hold.usage[0] if hold.usage else None)
        for mandate in range(len(self.models) if accounts else 0):
            seen = await self.check(Question(self._id(mandate), USERS[0], Decimal(0), None, None))
            assert seen.funds.held == self._held(self._account(mandate, USERS[0]))

    def _held(self, account: tuple[int, str], *, due: bool = False) -> int:
        """What is held on an account, with what is due but was not given back yet, or without."""
        state = (lambda hold: hold.state) if due else (lambda hold: hold.state_at(self.now))
        return sum(
            hold.amount
            for hold in self.holds.values()
            if state(hold) == "OPEN" and self._account(hold.mandate, hold.user) == account
        )

    def _account(self, mandate: int, user: str) -> tuple[int, str]:
        return mandate, user if self.models[mandate] == "PREPAY_USER" else "pool"

    def _id(self, mandate: int) -> str:
        return f"{self.run}-{mandate}"

    async def _no(self, connection: Any, mandate: int) -> int:
        no: int = await driver_connection(connection).fetchval(
            "SELECT no FROM mandates WHERE id = $1", self._id(mandate)
        )
        return no

    def _record(self, mandate: int, user: str, cost: int, event_id: UUID, hold: UUID | None) -> RawRecord:
        return usage_record(
            self._id(mandate),
            user,
            event_id=event_id,
            amount=format(Decimal(cost).scaleb(-6), "f"),
            at=self.now,
            hold_id=None if hold is None else str(hold),
        )

    def _void_record(self, mandate: int, event_id: UUID) -> RawRecord:
        return voided_record(self._id(mandate), event_id, at=self.now)


def test_holds_agree_with_their_model_whatever_happens_in_whatever_order(world: World) -> None:
    # A machine that never does what it is about would agree with any model.
    rare = ["refused", "held", "captured", "voided", "crashed", "settled by usage", "released", "switched", "repeated"]
    rare += ["reversed", "cancelled before", "passed on", "shared"]
    rare += ["not captured, CAPTURED", "not captured, VOIDED", "not captured, EXPIRED"]
    run_until_reached(lambda: HoldsMachine(world), world, rare, runs=25, steps=30)
