"""Grants against a model of them: budgets and promotions that are spent, held, expire, are given back, priced anew and
moved, in any order, while the clock moves on and processes die before and after they commit.

The real use cases work on a real PostgreSQL, without HTTP and Kafka. After every step each balance, remainder and
rollup, what remains of each grant, what is held and the state of each hold are what the model says, the audit finds
nothing, and rows that are asked for are explained.
"""

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import UUID, uuid4

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.subscription.v1 import Plan
from services.billing.audit import audit
from services.billing.charging.charge_usage import ChargeUsage
from services.billing.checks.authorize_holds import AuthorizeHolds, HoldRequest
from services.billing.checks.capture_holds import CaptureHolds
from services.billing.checks.check_funds import CheckFunds, Question
from services.billing.checks.errors import CapturedAlready, HoldExpired, HoldRefused, HoldVoided
from services.billing.checks.release_holds import ReleaseHolds
from services.billing.checks.together import Together
from services.billing.checks.void_hold import void
from services.billing.corrections.charges import Selection
from services.billing.corrections.rerate import show_rerating, start_rerating
from services.billing.corrections.reverse_charge import cancel_event
from services.billing.corrections.run_reratings import RunReratings
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.errors import PromotionRedeemed
from services.billing.credits.expire_grants import ExpireGrants
from services.billing.credits.post_manual_credit import ManualCredit, post_manual_credit
from services.billing.credits.promotions import Offer, give_promotion, redeem_code
from services.billing.ledger.domain import BillingModel, transaction_id
from services.billing.ledger.grants import BALANCE_NOW
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.mandates.change_settings import change_settings
from services.billing.mandates.errors import ModelUnchanged
from services.billing.mandates.switch_model import switch_model
from services.billing.pricing import PriceList, PriceVersion, version_to_text
from services.billing.pricing.repository import Tariffs, add_versions, lock_revision, raise_revision
from services.billing.reports.explain_transaction import explain_transaction
from services.billing.reports.scope import Scope
from services.billing.settings import BillingSettings
from services.chassis.caller import Caller
from services.chassis.database import driver_connection
from tests.support.charging import received
from tests.support.databases import on_driver
from tests.support.directory import directory_events
from tests.support.events import RawRecord, usage_record, voided_record
from tests.support.explanations import assert_explained
from tests.support.facts import money, subscription
from tests.support.invoicing import SPANS
from tests.support.machines import Crash, CrashPoint, World, empty_ledger, run_until_reached
from tests.support.model_grants import USERS, Budget, GrantsModel, Used
from tests.support.model_holds import Hold, HoldsModel
from tests.support.model_ledger import MODELS

T = TypeVar("T")
# A few days before the end of a month, so that usage of the month before comes late.
START = datetime(2026, 3, 28, 12, tzinfo=UTC)
PRICED_FROM = datetime(2026, 1, 1, tzinfo=UTC)
YEAR_END = datetime(2027, 1, 1, tzinfo=UTC)
ADMIN = Caller(user_id="system-admin", system_admin=True)
MANDATES = 2
PRICES = ("0", "0.0000001", "0.0000003", "0.000123456789", "0.01", "0.025")

mandates = st.integers(0, MANDATES - 1)
amounts = st.integers(1, 9).map(lambda number: number * 1_000_000) | st.integers(1, 5_000_000)
days = st.integers(-40, 0) | st.just(0)
# For how many hours nothing happened before a step, and whether the job took what was over.
pauses = st.sampled_from([(0, False), (0, False), (5, True), (24, False), (50, True), (50, False)])
usages = st.tuples(
    mandates,
    st.sampled_from(USERS),
    days,
    st.tuples(st.just("cost"), st.decimals(0, 5, places=8)) | st.tuples(st.sampled_from("ab"), st.integers(1, 300)),
)
batches = st.lists(usages, min_size=2, max_size=9)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty ledger."""
    with empty_ledger(tmp_path) as made:
        yield made


class GrantsMachine(RuleBasedStateMachine):
    """Does to the service and to the model the same."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.run = uuid4().hex[:12]
        self.model = GrantsModel(MANDATES, START)
        self.random = Random(0)
        self.records: dict[UUID, RawRecord] = {}
        self.used: dict[UUID, Used] = {}
        # The holds that usage names.
        self.naming: dict[UUID, UUID] = {}
        self.holds = HoldsModel(self.model)
        self.given: list[Any] = []
        database, clock, faults = world.database, self._clock, CrashPoint()
        self.faults = faults
        self.charge = ChargeUsage(database, default_markup=Decimal("33.3333"), clock=clock, faults=faults)
        self.follow = ApplySubscription(database, clock=clock)
        self.rerate_page = RunReratings(database, clock=clock, faults=faults)
        together, tariffs = Together(), Tariffs()
        check = CheckFunds(database, tariffs, BillingSettings.model_construct(), clock)
        self.authorize = AuthorizeHolds(database, together, check, tariffs, clock=clock, faults=faults)
        self.capture_hold = CaptureHolds(
            database, together, default_markup=Decimal("33.3333"), clock=clock, faults=faults
        )

    def _clock(self) -> datetime:
        return self.model.now

    @initialize()
    def begin(self) -> None:
        """A mandate with a pool and one with members' own budgets, with grants, prices and usage."""
        apply = ApplyDirectory(self.world.database, clock=self._clock)
        for mandate in range(MANDATES):
            self.world.wait(apply(directory_events(self._id(mandate), {user: ["member"] for user in USERS}), []))
        self.world.wait(self._give_addresses())
        self.price("a", "0.01")
        self.price("b", "0.000123456789")
        models: list[tuple[int, BillingModel]] = [(0, "CREDIT_POSTPAY"), (1, "UNLIMITED"), (1, "PREPAY_USER")]
        for mandate, model in models:
            self._switch(mandate, model)
        self.change_policy(1, "next")
        # Owed until there is a budget.
        self._charge([self._new((0, USERS[0], 0, ("cost", Decimal(1))))])
        for mandate in range(MANDATES):
            self.budget(mandate, 3_000_000, 1, False)
            self.budget(mandate, 4_000_000, 5, False)
            # Some at once, because a run may leave out any of the rules.
            use = [(mandate, USERS[number % 3], -number, ("ab"[number % 2], 90)) for number in range(8)]
            self._charge([self._new(each) for each in use])
            self.credit(mandate, USERS[0], -100_000, (0, False))
            self.promotion(mandate, 100_000, 2, True)
            for number in range(3):
                self.hold(mandate, USERS[number], 200_000, 3600 * 10**number)
        self.hold(1, USERS[0], 99_000_000, 3600)

    @rule(mandate=mandates, amount=amounts, until=st.integers(-2, 20) | st.none(), by_member=st.booleans())
    def budget(self, mandate: int, amount: int, until: int | None, by_member: bool) -> None:
        """The budget of a new period, which may be over already, or for good; told twice."""
        now, key = self.model.now, f"plan-{len(self.given)}"
        plan = Plan(
            key=key,
            budget=money(str(Decimal(amount).scaleb(-6))),
            rollover=until is None,
            budget_per="member" if by_member else "mandate",
        )
        end = now + timedelta(days=until or 1)
        start = now - timedelta(days=30)
        event = subscription(
            self._id(mandate), uuid4(), 1, "ACTIVE", plan=plan, period_start=start, period_end=end, budget_due=True
        )
        self.given.append(event)
        assert self.world.wait(self.follow([event, event], [])) == []
        whole = amount * len(USERS) if by_member else amount
        self.model.give(Budget(mandate, whole, None if until is None else end, key))

    @rule(data=st.data())
    def repeat_budget(self, data: st.DataObject) -> None:
        """A budget once more, at any time: nothing comes of it."""
        if self.given:
            event = data.draw(st.sampled_from(self.given))
            assert self.world.wait(self.follow([event], [])) == []

    @rule(mandate=mandates, amount=amounts, until=st.integers(1, 20), code=st.booleans())
    def promotion(self, mandate: int, amount: int, until: int, code: bool) -> None:
        """A promotion, at once or by a code, which a mandate redeems once."""
        database, clock = self.world.database, self._clock
        end = self.model.now + timedelta(days=until)
        text, given = (uuid4().hex if code else None), money(str(Decimal(amount).scaleb(-6)))
        offer = Offer(None if code else self._id(mandate), given, end, "machine", text, None, "")
        made = self.world.wait(give_promotion(database, offer, amount_max=Decimal(1000), caller=ADMIN, clock=clock))
        if text is not None:
            redeem = lambda: redeem_code(  # noqa: E731 - it is asked for twice.
                database, self._id(mandate), text, key=None, caller=ADMIN, clock=clock
            )
            self.world.wait(redeem())
            with pytest.raises(PromotionRedeemed):
                self.world.wait(redeem())
            self.world.seen["codes"] += 1
        self.model.give(Budget(mandate, amount, end, made["id"]))

    @rule(
        mandate=mandates,
        user=st.sampled_from(USERS),
        amount=amounts | amounts.map(lambda amount: -amount),
        pause=pauses,
    )
    def credit(self, mandate: int, user: str, amount: int, pause: tuple[int, bool]) -> None:
        """A manual credit or deduction."""
        self._pause(*pause)
        credit = ManualCredit(user, Decimal(amount).scaleb(-6), "machine", None)
        self._write(lambda c, no: post_manual_credit(c, no, credit, caller=ADMIN, now=self.model.now), mandate)
        self.model.credit(mandate, user, amount)

    @rule(batch=batches, pause=pauses, data=st.data(), crash=st.booleans())
    def use(self, batch: list[Any], pause: tuple[int, bool], data: st.DataObject, crash: bool) -> None:
        """New usage of today and of days before, also of the month before, some of which names holds of whichever
        mandate and state; delivered twice, and before that to a worker that dies before it commits."""
        self._pause(*pause)
        ids = [self._new(each) for each in batch]
        for id_ in ids:
            named = data.draw(st.sampled_from([None, None, *self.holds]))
            if named is not None:
                self.naming[id_] = named
        if crash:
            self.faults.armed = "before_commit"
            with pytest.raises(Crash):
                self.world.wait(self.charge(received(self._records(ids), now=self.model.now), []))
            self.world.seen["charge died"] += 1
        self._charge(ids)
        self._charge(ids[::-1])

    @rule(
        mandate=mandates,
        user=st.sampled_from(USERS),
        amount=amounts,
        ttl_s=st.sampled_from([3600, 30 * 3600, 300 * 3600]),
    )
    def hold(self, mandate: int, user: str, amount: int, ttl_s: int) -> None:
        """A hold, where the balance without what is over and what is held covers it; its repeat is the same."""
        question = Question(self._id(mandate), user, Decimal(amount).scaleb(-6), None, None)
        request = HoldRequest(question=question, ttl_s=ttl_s, actor="machine", key=uuid4().hex, body="")
        if self.holds.is_refused(mandate, user, amount):
            with pytest.raises(HoldRefused):
                self.world.wait(self.authorize(request))
            self.world.seen["hold refused"] += 1
            return
        made = self.world.wait(self.authorize(request))
        assert self.world.wait(self.authorize(request)) == made
        until = self.model.now + timedelta(seconds=ttl_s)
        self.holds[UUID(made["holdId"])] = Hold(mandate, user, amount, until)

    @rule(
        data=st.data(),
        cost=st.integers(0, 4_000_000),
        crash=st.sampled_from([None, "capture_before_commit", "capture_after_commit"]),
    )
    def capture(self, data: st.DataObject, cost: int, crash: str | None) -> None:
        """A capture by less or more than was held, of a hold in whatever state; it may have to be asked for again."""
        if not self.holds:
            return
        id_ = data.draw(st.sampled_from(list(self.holds)))
        hold, given = self.holds[id_], money(str(Decimal(cost).scaleb(-6)))
        state = hold.state_at(self.model.now)
        if state != "OPEN":
            refused = {"CAPTURED": CapturedAlready, "VOIDED": HoldVoided, "EXPIRED": HoldExpired}[state]
            with pytest.raises(refused):
                self.world.wait(self.capture_hold(id_, money("5")))
            return
        if crash is not None:
            self.faults.armed = crash
            with pytest.raises(Crash):
                self.world.wait(self.capture_hold(id_, given))
            self.world.seen["capture died"] += 1
        for _ in range(2):
            self.world.wait(self.capture_hold(id_, given))
        self.used[id_] = Used(hold.mandate, hold.user, self.model.now, Fraction(cost, 10**6))
        self.model.charge([(id_, self.used[id_])])
        hold.state, hold.usage = "CAPTURED", (id_, cost)
        spent = self.model.charges[id_].spent if id_ in self.model.charges else {}
        self.world.seen["captured of a grant"] += bool(spent)

    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        """A void of a hold in whatever state, once more if it was."""
        if self.holds:
            id_ = data.draw(st.sampled_from(list(self.holds)))
            hold, state = self.holds[id_], self.holds[id_].state_at(self.model.now)
            work = lambda: void(self.world.database, id_, clock=self._clock)  # noqa: E731 - it is asked for twice.
            if state in ("CAPTURED", "EXPIRED"):
                with pytest.raises({"CAPTURED": CapturedAlready, "EXPIRED": HoldExpired}[state]):
                    self.world.wait(work())
            else:
                for _ in range(2):
                    self.world.wait(work())
                hold.state = "VOIDED"
                self.world.seen["voided"] += 1

    @rule()
    def release(self) -> None:
        """The job gives back what is held and over."""
        while self.world.wait(ReleaseHolds(self.world.database, clock=self._clock)()):
            pass
        self.world.seen["released"] += self.holds.release()

    @rule(batch=batches, mandate=mandates, user=st.sampled_from(USERS))
    def owe(self, batch: list[Any], mandate: int, user: str) -> None:
        """Usage that one account pays, most often more than it has."""
        self._charge([self._new((mandate, user, when, what)) for _, _, when, what in batch])
        self._charge([self._new((mandate, user, 0, ("cost", Decimal(7))))])

    @rule(data=st.data(), batch=st.lists(usages, max_size=4), by_word=st.booleans(), pause=pauses)
    def cancel(self, data: st.DataObject, batch: list[Any], by_word: bool, pause: tuple[int, bool]) -> None:
        """Usage of any time and of the same batch is cancelled."""
        self._pause(*pause)
        ids = [self._new(each) for each in batch]
        charged = [id_ for id_, charge in self.model.charges.items() if not charge.reversed and charge.spent]
        known = [*self.records, *charged, *charged]
        if not known:
            return
        targets = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=5))
        if by_word:
            self._charge(ids)
            word = cancel_event(
                self.world.database, self._id(self.used[targets[0]].mandate), targets[0], "word", clock=self._clock
            )
            self.world.wait(word)
            self.model.cancel([(targets[0], "word")])
        else:
            self._charge(ids, targets)

    @rule(batch=batches)
    def cancel_before(self, batch: list[Any]) -> None:
        """Usage is cancelled before it comes, some time before or with it."""
        ids = [self._new(each) for each in batch]
        self._charge([], ids)
        self._charge(ids)
        self.world.seen["cancelled before"] += 1

    @rule(hours=st.sampled_from([1, 20, 24, 24, 72, 240]), job=st.booleans())
    def wait(self, hours: int, job: bool) -> None:
        """Time goes by; what is over is taken by the job, or by whatever comes next."""
        self._pause(hours, job)

    @rule()
    def expire(self) -> None:
        """The job takes what is over."""
        job = ExpireGrants(self.world.database, clock=self._clock)
        while self.world.wait(job()):
            pass
        self.world.seen["expired by the job"] += self.model.expire() > 0

    @rule(mandate=mandates, model=st.sampled_from(MODELS))
    def switch(self, mandate: int, model: BillingModel) -> None:
        """A switch of the billing model."""
        if self.model.models[mandate] == model:
            with pytest.raises(ModelUnchanged):
                self._switch(mandate, model)
        else:
            self._switch(mandate, model)

    @rule(mandate=mandates, pause=pauses, pooled=st.sampled_from([each for each in MODELS if each != "PREPAY_USER"]))
    def share_or_gather(self, mandate: int, pause: tuple[int, bool], pooled: BillingModel) -> None:
        """The switch that moves money: from the pool to the members, or back."""
        self._pause(*pause)
        own = self.model.models[mandate] == "PREPAY_USER"
        self._switch(mandate, pooled if own else "PREPAY_USER")

    @rule(mandate=mandates, data=st.data(), first=st.sampled_from(PRICES), second=st.sampled_from(PRICES))
    def correct_after_switch(self, mandate: int, data: st.DataObject, first: str, second: str) -> None:
        """Corrections and cancellations of what an account paid that is not used any more."""
        self.share_or_gather(mandate, (24, False), "PREPAY_MANDATE")
        self.rerate(first, second, None, 300)
        charged = [id_ for id_, each in self.model.charges.items() if each.spent and not each.reversed]
        if charged:
            self._charge([], data.draw(st.lists(st.sampled_from(charged), min_size=1, max_size=4)))

    @rule(mandate=mandates, policy=st.sampled_from(["own", "next", "next"]))
    def change_policy(self, mandate: int, policy: str) -> None:
        """What becomes of usage that comes late from now on."""
        change = change_settings(
            self.world.database,
            self._id(mandate),
            {"lateEvents": policy},
            caller=ADMIN,
            amount_max=Decimal(1000),
            clock=self._clock,
        )
        self.world.wait(change)
        self.model.late[mandate] = policy

    @rule(model=st.sampled_from("ab"), price=st.sampled_from(PRICES))
    def price(self, model: str, price: str) -> None:
        """Another price of a model, for all of its time; it changes no charge."""
        self.world.wait(self._add_price(model, Decimal(price)))
        self.model.prices[model] = Fraction(price)

    @rule(
        first=st.sampled_from(PRICES),
        second=st.sampled_from(PRICES),
        model=st.sampled_from(["a", "b", None, None]),
        since=st.sampled_from([3, 40, 300]),
    )
    def rerate(self, first: str, second: str, model: str | None, since: int) -> None:
        """Prices change, and charges are brought to them; once more, that changes nothing."""
        self.price("a", first)
        self.price("b", second)
        begin = max(PRICED_FROM, self.model.now - timedelta(days=since))
        name = None if model is None else f"{self.run}-{model}"
        selection = Selection(begin, YEAR_END, f"provider-{self.run}", name)
        changed = self.model.rerate(model, begin, YEAR_END)
        assert self._rerate(selection)["differing"] == changed
        assert self._rerate(selection)["differing"] == 0
        self.world.seen["corrected"] += changed

    @invariant()
    def compare(self) -> None:
        """Everything the model knows is so, and the audit finds nothing."""
        self.world.wait(self._compare())

    def teardown(self) -> None:
        """What the model saw, for all runs."""
        for name, count in self.model.seen.items():
            self.world.seen[name] += count

    def _pause(self, hours: int, job: bool) -> None:
        self.model.now += timedelta(hours=hours)
        self.world.seen["waited"] += hours > 0
        if job:
            self.expire()

    def _id(self, mandate: int) -> str:
        return f"{self.run}-{mandate}"

    def _new(self, usage: Any) -> UUID:
        mandate, user, day, (model, value) = usage
        event_id = UUID(int=(len(self.records) + 1) << 64 | 4 << 76 | 2 << 62)
        at = self.model.now + timedelta(days=day)
        data: dict[str, Any] = {"provider": f"provider-{self.run}", "model": f"{self.run}-{model}"}
        if model == "cost":
            used = Used(mandate, user, at, Fraction(value))
            data["cost"] = {"amount": format(value, "f"), "currency": "CHF"}
        else:
            used = Used(mandate, user, at, None, model, value)
            data |= {"cost": None, "tokens": {"input": value}}
        self.records[event_id] = usage_record(self._id(mandate), user, event_id=event_id, at=at, **data)
        self.used[event_id] = used
        return event_id

    def _charge(self, ids: list[UUID], cancelled: list[UUID] | None = None) -> None:
        """Delivers usage and cancellations as one batch."""
        records = self._records(ids)
        for id_ in cancelled or []:
            records.append(voided_record(self._id(self.used[id_].mandate), id_, "event", at=self.model.now))
        assert not self.world.wait(self.charge(received(records, now=self.model.now), []))
        fresh = [id_ for id_ in ids if id_ not in self.model.events]
        self.model.charge((id_, self.used[id_]) for id_ in ids)
        named = [(self.naming.get(id_), self.used[id_].mandate, id_) for id_ in fresh]
        self.world.seen["hold settled by usage"] += self.holds.settle(named)
        self.model.cancel((id_, "event") for id_ in cancelled or [])

    def _records(self, ids: list[UUID]) -> list[RawRecord]:
        """Usage as it is published, with the hold that it names."""
        records = []
        for id_ in ids:
            made, named = self.records[id_], self.naming.get(id_)
            if named is not None:
                data = json.dumps({**json.loads(made.value or b""), "hold_id": str(named)})
                made = RawRecord(data.encode(), made.headers, made.key)
            records.append(made)
        return records

    def _switch(self, mandate: int, model: BillingModel) -> None:
        self._write(lambda c, no: switch_model(c, no, model, spans=SPANS, caller=ADMIN, now=self.model.now), mandate)
        self.model.switch(mandate, model)
        self.world.seen[f"switched to {model}"] += 1

    def _write(self, work: Callable[[AsyncConnection, int], Awaitable[T]], mandate: int) -> T:
        async def write() -> T:
            async with self.world.database.transaction() as connection:
                driver = driver_connection(connection)
                number = await driver.fetchval("SELECT no FROM mandates WHERE id = $1", self._id(mandate))
                return await work(connection, number)

        return self.world.wait(write())

    def _rerate(self, selection: Selection) -> dict[str, Any]:
        async def carry_out() -> dict[str, Any]:
            ordered = await start_rerating(self.world.database, selection, user_id=None, clock=self._clock)
            while True:
                await self.rerate_page(UUID(ordered["id"]))
                answer = await show_rerating(self.world.database, ordered["id"])
                if answer["state"] == "DONE":
                    return answer

        return self.world.wait(carry_out())

    async def _give_addresses(self) -> None:
        async with on_driver(self.world.database) as driver:
            await driver.execute("UPDATE mandates SET billing_address = '{}' WHERE id LIKE $1", f"{self.run}-%")

    async def _add_price(self, model: str, price: Decimal) -> None:
        provider, lists = f"provider-{self.run}", (PriceList({"input": price}),)
        version = PriceVersion(provider, f"{self.run}-{model}", "CHF", PRICED_FROM, lists)
        async with self.world.database.transaction() as connection:
            await lock_revision(connection)
            await add_versions(connection, [(version, version_to_text(version))], None)
            await raise_revision(connection)

    async def _compare(self) -> None:
        model, pattern = self.model, f"{self.run}-%"
        async with on_driver(self.world.database) as connection:
            accounts = await connection.fetch(
                "SELECT m.id, a.type, a.user_id, a.no, a.balance, a.granted, a.rounding_remainder, a.held,"
                f" {BALANCE_NOW.format('a', '$2')} AS now FROM accounts a JOIN mandates m ON m.no = a.mandate_no"
                " WHERE m.id LIKE $1 AND a.type IN ('MANDATE', 'USER', 'INTERNAL')",
                pattern,
                model.now,
            )
            grants = await connection.fetch(
                "SELECT g.account_no, g.amount, g.remaining, g.expires_at FROM grants g"
                " JOIN mandates m ON m.no = g.mandate_no WHERE m.id LIKE $1 ORDER BY g.no",
                pattern,
            )
            rollups = await connection.fetch(
                "SELECT m.id, a.user_id, r.day, sum(r.cost)::bigint AS cost, sum(r.count)::bigint AS count"
                " FROM rollups r JOIN accounts a ON a.no = r.member_account_no"
                " JOIN mandates m ON m.no = r.mandate_no WHERE m.id LIKE $1 GROUP BY 1, 2, 3",
                pattern,
            )
            rows = await connection.fetch(
                "SELECT t.posted_account_no, t.seq, t.own FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
                " WHERE m.id LIKE $1 ORDER BY t.recorded_at DESC, t.posted_account_no, t.seq DESC",
                pattern,
            )
            holds = await connection.fetch(
                "SELECT id, state, settled_by FROM holds WHERE id = ANY($1)", list(self.holds)
            )
            failing = [check.name for check in await audit(connection) if check.failing_count]
        assert failing == []
        assert {row["id"]: (row["state"], row["settled_by"]) for row in holds} == {
            id_: (hold.state, hold.usage[0] if hold.usage else None) for id_, hold in self.holds.items()
        }
        of_account: defaultdict[int, list[Any]] = defaultdict(list)
        for row in grants:
            of_account[row["account_no"]].append((row["amount"], row["remaining"], row["expires_at"]))
        names = {"MANDATE": "pool", "INTERNAL": "internal"}
        for row in accounts:
            place = _number(row["id"]), row["user_id"] or names[row["type"]]
            purse = model.purses[place]
            assert of_account[row["no"]] == [(each.amount, each.left, each.expires_at) for each in purse.grants], place
            assert row["balance"] == purse.balance, place
            assert row["held"] == self.holds.held(place, due=True), place
            assert row["granted"] == purse.balance - purse.paid <= max(row["balance"], 0), place
            assert row["now"] == purse.balance - model.due(place), place
            assert Fraction(row["rounding_remainder"]) == purse.remainder, place
        told = {(_number(row["id"]), row["user_id"], row["day"]): [row["cost"], row["count"]] for row in rollups}
        assert told == {key: sums for key, sums in model.rollups.items() if key in told or any(sums)}
        for row in self.random.sample(rows, min(2, len(rows))):
            await self._explain(row)

    async def _explain(self, row: Any) -> None:
        id_ = str(transaction_id(row["posted_account_no"], row["seq"]))
        explanation = await explain_transaction(self.world.database, Scope.of(ADMIN), id_)
        assert explanation["fault"] is None
        if not row["own"]:
            assert_explained(explanation)
            self.world.seen["charges explained"] += 1


def _number(mandate: str) -> int:
    return int(mandate.rpartition("-")[2])


# What every suite has to have reached.
REACHED = (
    "cancelled before",
    "capture died",
    "captured of a grant",
    "charge died",
    "charges explained",
    "codes",
    "corrected",
    "correction of a grant",
    "correction of a grant passed on",
    "correction passed on",
    "correction that covered a debt",
    "counted in the open month",
    "debt covered",
    "expired by a movement",
    "expired by the job",
    "given back to a grant",
    "given back to an expired grant",
    "hold refused",
    "hold settled by usage",
    "released",
    "grant deducted",
    "grant passed on",
    "grants switched",
    "spent of a grant",
    "spent of two grants",
    "voided",
    "waited",
    *(f"switched to {model}" for model in MODELS),
)


def test_each_grant_is_what_its_model_says_after_every_step(world: World) -> None:
    machine: Any = lambda: GrantsMachine(world)  # noqa: E731 - Hypothesis wants something to call.
    run_until_reached(machine, world, REACHED, runs=10, steps=25)
