"""The ledger against a model of it: usage, repeats, conflicts, crashes, credits, reversals, switches in any order.

The real handler works on a real PostgreSQL, without Kafka. After every step each balance, remainder, rollup and claim
is what the model says, to the last digit, and the audit finds nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.audit import audit
from services.billing.charging.cancellation_event import CancellationEvent
from services.billing.charging.charge_usage import ChargeUsage
from services.billing.charging.settle_parked import SettleParked
from services.billing.charging.usage_events import Usage
from services.billing.corrections.reverse_charge import cancel_event, reverse_charge
from services.billing.credits.post_manual_credit import ManualCredit, post_manual_credit
from services.billing.ledger.domain import BillingModel, transaction_id
from services.billing.mandates.apply_directory import ApplyDirectory
from services.billing.mandates.errors import ModelUnchanged
from services.billing.mandates.switch_model import switch_model
from services.billing.pricing import read_rappen_file
from services.billing.pricing.import_prices import import_prices, set_rate
from services.billing.pricing.repository import Tariffs
from services.chassis.caller import Caller
from services.chassis.database import driver_connection
from services.chassis.faults import FaultPoints
from tests.support.charging import received
from tests.support.databases import on_driver
from tests.support.directory import directory_events
from tests.support.events import RawRecord, usage_record, voided_record
from tests.support.invoicing import SPANS
from tests.support.machines import World, empty_ledger, run_until_reached
from tests.support.model_ledger import MARKUP, MICRO, MODELS, RATES, TOKEN_PRICE, USERS, ModelLedger, Used

T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)
ADMIN = Caller(user_id="system-admin", system_admin=True)


class Crash(Exception):  # noqa: N818 - it stands for a crash, not for an error.
    """The process would have died here."""


class CrashPoint(FaultPoints):
    """Raises once instead of killing, because the test lives in the same process."""

    def __init__(self) -> None:
        super().__init__(None)
        self.armed = False
        self.hits = 0

    def reach(self, point: str) -> None:
        if self.armed and point == "before_commit":
            self.armed = False
            self.hits += 1
            raise Crash


class Void(NamedTuple):
    """An event that cancels usage."""

    event_id: UUID
    mandate: int
    cancelled: UUID
    reason: str


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty ledger."""
    with empty_ledger(tmp_path) as made:
        yield made


amounts = st.decimals(0, 50, places=9) | st.decimals(0, Decimal("0.0001"), places=12) | st.just(Decimal(0))
usages = st.builds(
    Used,
    mandate=st.integers(0, 3),
    user=st.sampled_from(USERS),
    amount=amounts,
    currency=st.sampled_from(sorted(RATES)),
) | st.builds(
    Used,
    mandate=st.integers(0, 3),
    user=st.sampled_from(USERS),
    amount=st.none(),
    model=st.sampled_from(["new-0", "new-1"]),
    tokens=st.integers(1, 1000),
)


class LedgerMachine(RuleBasedStateMachine):
    """Does to the service and to the model the same."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.run = uuid4().hex[:12]
        self.model = ModelLedger()
        self.faults = CrashPoint()
        self.clock: Callable[[], datetime] = lambda: START
        self.charge = ChargeUsage(world.database, default_markup=MARKUP, clock=self.clock, faults=self.faults)
        self.settle = SettleParked(world.database, default_markup=MARKUP, clock=self.clock)
        self.records: dict[UUID, list[tuple[Used, RawRecord]]] = {}
        # Cancellations that were made up, and the ids of those that were delivered.
        self.voids: list[Void] = []
        self.voided: set[UUID] = set()

    @initialize()
    def begin(self) -> None:
        """Four mandates with members, each in a billing model of its own."""
        world = self.world
        apply = ApplyDirectory(world.database, clock=self.clock)
        for number in range(len(MODELS)):
            world.wait(apply(directory_events(self._mandate(number), {user: ["member"] for user in USERS}), []))
        world.wait(self._prepare())
        for number, model in enumerate(MODELS[1:], start=1):
            self._switch(number, model)

    @rule(batch=st.lists(usages, min_size=1, max_size=12))
    def use(self, batch: list[Used]) -> None:
        """New events."""
        self._deliver([self._new(used) for used in batch])

    @rule(data=st.data(), again=st.integers(1, 20), batch=st.lists(usages, max_size=5))
    def repeat(self, data: st.DataObject, again: int, batch: list[Used]) -> None:
        """Events of any time once more, in any order, among new ones."""
        if self.records:
            known = data.draw(st.lists(st.sampled_from(list(self.records)), max_size=again))
            mixed = [*known, *(self._new(used) for used in batch)]
            self._deliver(data.draw(st.permutations(mixed)))

    @rule(data=st.data(), other=usages)
    def contradict(self, data: st.DataObject, other: Used) -> None:
        """Another event under an id that is known, in its mandate."""
        if self.records:
            event_id = data.draw(st.sampled_from(list(self.records)))
            first = self.records[event_id][0][0]
            used = Used(first.mandate, other.user, other.amount, other.currency, other.model, other.tokens)
            self._record(event_id, used)
            self._deliver([event_id], newest=True)
            self.records[event_id].pop()
            self.world.seen["conflicts"] += self.model.conflicts

    @rule(batch=st.lists(usages, min_size=1, max_size=12), later=st.lists(usages, max_size=3))
    def crash_before_commit(self, batch: list[Used], later: list[Used]) -> None:
        """A batch whose transaction dies; other events come before it is delivered again, in another order."""
        ids = [self._new(used) for used in batch]
        self.faults.armed = True
        with pytest.raises(Crash):
            self.world.wait(self.charge([self._received(event_id) for event_id in ids], []))
        self.compare()
        self._deliver([self._new(used) for used in later])
        self._deliver(ids[::-1])
        self.world.seen["crashes"] += 1

    @rule(mandate=st.integers(0, 3), user=st.sampled_from(USERS), amount=st.decimals(-20, 100, places=6))
    def credit(self, mandate: int, user: str, amount: Decimal) -> None:
        """A manual credit or deduction."""
        if amount:
            credit = ManualCredit(user, amount, "machine", None)
            self.world.wait(
                self._write(lambda c, no: post_manual_credit(c, no, credit, caller=ADMIN, now=START), mandate)
            )
            self.model.credit(mandate, user, amount)

    @rule(data=st.data(), batch=st.lists(usages, max_size=5), later=st.lists(usages, max_size=2), crash=st.booleans())
    def cancel_by_event(self, data: st.DataObject, batch: list[Used], later: list[Used], crash: bool) -> None:
        """Events cancel usage of any time, of the same batch, and some that has not arrived; some of them twice, with
        an id of their own or as a repeat, in any order among usage. Some of it happens once more after a crash."""
        new, awaited = [self._new(used) for used in batch], [self._new(used) for used in later]
        known = [*self.records, *awaited]
        if not known:
            return
        targets = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=8)) + awaited
        voids = [self._void(target, f"reason {number}") for number, target in enumerate(targets)]
        voids += data.draw(st.lists(st.sampled_from(voids), max_size=3))
        usage = [*new, *data.draw(st.lists(st.sampled_from(known), max_size=3))]
        mixed: list[UUID | Void] = data.draw(st.permutations([*usage, *voids]))
        if crash:
            self.faults.armed = True
            with pytest.raises(Crash):
                self.world.wait(self.charge(self._batch(mixed), []))
            self.compare()
            mixed = data.draw(st.permutations(mixed))
        self.world.wait(self.charge(self._batch(mixed), []))
        before = len(self.model.reversed)
        with localcontext(prec=60):
            for each in mixed:
                if isinstance(each, UUID):
                    self.model.deliver(each, self.records[each][0][0])
            self.model.cancel((each.mandate, each.cancelled, each.reason) for each in mixed if isinstance(each, Void))
        self.voided |= {each.event_id for each in voids}
        self.world.seen["reversals"] += len(self.model.reversed) - before
        self.world.seen["awaited"] += len(awaited)

    @rule(data=st.data(), by_transaction=st.booleans())
    def cancel_by_word(self, data: st.DataObject, by_transaction: bool) -> None:
        """A system administrator cancels usage of any time, by its event or by the transaction that charged it."""
        if self.records:
            event_id = data.draw(st.sampled_from(list(self.records)))
            mandate = self.records[event_id][0][0].mandate
            by_transaction = by_transaction and event_id in self.model.posted
            self.world.wait(self._cancel(mandate, event_id, by_transaction))
            with localcontext(prec=60):
                self.model.cancel([(mandate, event_id, "by word")])
            self.world.seen["by transaction" if by_transaction else "by event id"] += 1

    @rule(mandate=st.integers(0, 3), model=st.sampled_from(MODELS))
    def switch(self, mandate: int, model: BillingModel) -> None:
        """A switch of the billing model, with its money."""
        if self.model.models[mandate] == model:
            with pytest.raises(ModelUnchanged):
                self._switch(mandate, model)
        else:
            self._switch(mandate, model)
            self.world.seen["switches"] += 1

    @rule(model=st.sampled_from(["new-0", "new-1"]))
    def add_price(self, model: str) -> None:
        """The price that parked events wait for."""
        if model not in self.model.priced:
            self.world.seen["settled"] += sum(self.model.events[entry].model == model for entry in self.model.parked)
            self.world.wait(self._add_price(model))
            while self.world.wait(self.settle()):
                pass
            with localcontext(prec=60):
                self.model.add_price(model)

    @invariant()
    def compare(self) -> None:
        """Everything the model knows is so, and the audit finds nothing."""
        self.world.wait(self._compare())

    def _mandate(self, number: int) -> str:
        return f"{self.run}-{number}"

    def _new(self, used: Used) -> UUID:
        event_id = uuid5(NAMESPACE_OID, str(len(self.records)))
        self._record(event_id, used)
        return event_id

    def _record(self, event_id: UUID, used: Used) -> None:
        data: dict[str, Any] = {"model": f"{self.run}-{used.model}"}
        if used.amount is None:
            data |= {"cost": None, "tokens": {"input": used.tokens}}
        else:
            data["cost"] = {"amount": format(used.amount, "f"), "currency": used.currency}
        record = usage_record(self._mandate(used.mandate), used.user, event_id=event_id, at=START, **data)
        self.records.setdefault(event_id, []).append((used, record))

    def _received(self, event_id: UUID, *, newest: bool = False) -> Usage | CancellationEvent:
        _, record = self.records[event_id][-1 if newest else 0]
        self.world.seen["records"] += 1
        return received([record], now=START)[0]

    def _void(self, target: UUID, reason: str) -> Void:
        event_id = uuid5(NAMESPACE_OID, f"void {self.run} {len(self.voids)}")
        self.voids.append(Void(event_id, self.records[target][0][0].mandate, target, reason))
        return self.voids[-1]

    def _batch(self, mixed: Sequence[UUID | Void]) -> list[Usage | CancellationEvent]:
        return [self._received(each) if isinstance(each, UUID) else self._cancelling(each) for each in mixed]

    def _cancelling(self, void: Void) -> Usage | CancellationEvent:
        mandate = self._mandate(void.mandate)
        record = voided_record(mandate, void.cancelled, void.reason, event_id=void.event_id, at=START)
        return received([record], now=START)[0]

    def _deliver(self, ids: list[UUID], *, newest: bool = False) -> None:
        self.world.wait(self.charge([self._received(event_id, newest=newest) for event_id in ids], []))
        with localcontext(prec=60):
            for event_id in ids:
                self.model.deliver(event_id, self.records[event_id][-1 if newest else 0][0])

    def _switch(self, mandate: int, model: BillingModel) -> None:
        self.world.wait(
            self._write(lambda c, no: switch_model(c, no, model, spans=SPANS, caller=ADMIN, now=START), mandate)
        )
        self.model.switch(mandate, model)

    async def _write(self, work: Callable[[AsyncConnection, int], Awaitable[T]], mandate: int) -> T:
        async with self.world.database.transaction() as connection:
            number = await driver_connection(connection).fetchval(
                "SELECT no FROM mandates WHERE id = $1", self._mandate(mandate)
            )
            return await work(connection, number)

    async def _cancel(self, mandate: int, event_id: UUID, by_transaction: bool) -> None:
        database = self.world.database
        if not by_transaction:
            done = await cancel_event(database, self._mandate(mandate), event_id, "by word", clock=self.clock)
            assert (done.transaction is not None) == (event_id in self.model.posted)
            return
        async with on_driver(database) as driver:
            row = await driver.fetchrow(
                "SELECT t.* FROM transactions t JOIN mandates m ON m.no = t.mandate_no"
                " WHERE m.id = $1 AND t.event_id = $2 AND NOT t.own",
                self._mandate(mandate),
                event_id,
            )
        charge = str(transaction_id(row["posted_account_no"], row["seq"]))
        back = await reverse_charge(database, charge, "by word", caller=ADMIN, clock=self.clock)
        assert back["referenceId"] == charge

    async def _prepare(self) -> None:
        async with on_driver(self.world.database) as driver:
            await driver.execute("UPDATE mandates SET billing_address = '{}' WHERE id LIKE $1", f"{self.run}-%")
            rates = await driver.fetchval("SELECT count(*) FROM rates")
        if not rates:
            async with self.world.database.transaction() as connection:
                await set_rate(connection, currency="USD", rate=RATES["USD"], valid_from=START, actor="machine")

    async def _add_price(self, model: str) -> None:
        text = (
            f'{{"format": "rappen.prices.v1", "prices": [{{"provider": "anthropic", "model": "{self.run}-{model}",'
            f' "currency": "CHF", "valid_from": "{START.isoformat()}", "lists": [{{"prices": {{"input":'
            f' "{TOKEN_PRICE}"}}}}]}}]}}'
        )
        async with self.world.database.transaction() as connection:
            file = read_rappen_file(text.encode(), START)
            await import_prices(connection, file, tariffs=Tariffs(), apply=True, actor="machine")

    async def _compare(self) -> None:
        model, pattern = self.model, f"{self.run}-%"
        async with on_driver(self.world.database) as connection:
            accounts = await connection.fetch(
                "SELECT m.id, a.type, a.user_id, a.balance, a.rounding_remainder FROM accounts a"
                " JOIN mandates m ON m.no = a.mandate_no"
                " WHERE m.id LIKE $1 AND a.type IN ('MANDATE', 'USER', 'INTERNAL')",
                pattern,
            )
            rollups = await connection.fetch(
                "SELECT m.id, a.user_id, sum(r.cost) AS cost, sum(r.count) AS count FROM rollups r JOIN accounts a"
                " ON a.no = r.member_account_no"
                " JOIN mandates m ON m.no = r.mandate_no WHERE m.id LIKE $1 GROUP BY 1, 2",
                pattern,
            )
            unposted = await connection.fetch(
                "SELECT e.event_id, e.reason FROM unposted_events e JOIN mandates m ON m.no = e.mandate_no"
                " WHERE m.id LIKE $1",
                pattern,
            )
            cancelled = await connection.fetch(
                "SELECT m.id, c.event_id, c.reason FROM cancellations c JOIN mandates m ON m.no = c.mandate_no"
                " WHERE m.id LIKE $1",
                pattern,
            )
            refused = await connection.fetchval(
                "SELECT count(*) FROM quarantine WHERE convert_from(key, 'UTF8') LIKE $1", pattern
            )
            failing = [check.name for check in await audit(connection) if check.failing_count]
        names = {"MANDATE": "pool", "INTERNAL": "internal"}
        for row in accounts:
            key = (int(row["id"].rpartition("-")[2]), row["user_id"] or names[row["type"]])
            assert Decimal(row["balance"]) * MICRO == model.balances[key], key
            # What an UNLIMITED mandate's usage leaves over is compared too: its account rounds like every other.
            assert row["rounding_remainder"] == model.remainders[key], key
        told = {(int(row["id"].rpartition("-")[2]), row["user_id"]): row["cost"] * MICRO for row in rollups}
        assert told == {key: cost for key, cost in model.costs.items() if key in told or cost}
        counts = Counter(
            (model.events[each].mandate, model.events[each].user) for each in model.posted if each not in model.reversed
        )
        assert {key: row["count"] for key, row in zip(told, rollups, strict=True) if row["count"]} == counts
        claims: defaultdict[str, set[UUID]] = defaultdict(set)
        for row in unposted:
            claims[row["reason"]].add(row["event_id"])
        assert claims.pop("FREE", set()) == model.free
        assert claims.pop("CANCELLED", set()) == model.never_priced
        assert claims.pop("CANCELLATION", set()) == self.voided
        assert set().union(*claims.values()) == model.parked
        reasons = {(int(row["id"].rpartition("-")[2]), row["event_id"]): row["reason"] for row in cancelled}
        assert reasons == model.cancelled
        assert refused == model.conflicts
        assert failing == []


def test_the_ledger_is_what_its_model_says_after_every_step(world: World) -> None:
    machine: Any = lambda: LedgerMachine(world)  # noqa: E731 - Hypothesis wants something to call.
    reached = ("crashes", "conflicts", "switches", "settled", "reversals", "awaited", "by transaction", "by event id")
    run_until_reached(machine, world, reached, runs=30, steps=25)
