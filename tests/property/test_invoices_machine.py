"""Invoices against the ledger: usage, late usage, corrections, budgets, payments, refunds and switches in any order,
while the clock moves on and months are closed.

The real use cases work on a real PostgreSQL, without HTTP and Kafka. After every step: what all invoices have and what
the next ones will have is exactly what the ledger has of CREDIT_POSTPAY, and what is asked for is what is owed, so that
paying all invoices leaves nothing but what the next ones will ask for. The audit finds nothing.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID, uuid4

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rappen_contracts.subscription.v1 import Plan
from services.billing.audit import audit
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.expire_grants import ExpireGrants
from services.billing.credits.payment_events import CreditPayments, RefundPayments
from services.billing.invoices.close_months import CloseMonths
from services.billing.invoices.repository import (
    first_row,
    open_amount,
    read_last_invoice,
    read_open_span,
    read_pool,
)
from services.billing.invoices.usage import Rows, read_usage
from services.billing.mandates.errors import ModelUnchanged
from services.chassis.faults import FaultPoints
from tests.support.databases import on_driver
from tests.support.facts import money, paid, refunded, subscription
from tests.support.invoicing import INVOICES, Postpaid
from tests.support.machines import World, empty_ledger, run_until_reached

# Long enough ago that no run gets to a future, of which no event may be.
START = datetime(2020, 1, 20, 12, tzinfo=UTC)
CHF = 1_000_000

# Whole francs apart: of any number of micro-CHF hypothesis draws mostly those that no invoice asks for.
rests = st.integers(0, 20_000).map(lambda micros: Decimal(micros).scaleb(-6))
prices = st.builds(Decimal.__add__, st.sampled_from([0, 0, 1, 4, 12, 40]).map(Decimal), rests)
by_hand = st.builds(Decimal.__add__, st.sampled_from([1, 4, 15, -4]).map(Decimal), rests)
sums = st.integers(1, 15)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with empty_ledger(tmp_path_factory.mktemp("invoices")) as made:
        yield made


class Invoices(RuleBasedStateMachine):
    """One mandate; `world` is the machine's class attribute, because hypothesis makes the machines."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.mandate = Postpaid(self.world.database, START)
        self.charges: list[UUID] = []
        # What was charged in CREDIT_POSTPAY (micro-CHF), by charge, less what was taken back in it.
        self.postpaid: dict[UUID, int] = {}
        self.used_in_postpay = 0
        # What was paid: of which invoice, if of one, and how much.
        self.payments: list[tuple[str | None, Decimal]] = []
        self.model = "CREDIT_POSTPAY"

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        random = Random(seed)
        self.mandate.id = f"m-{random.randrange(10**9)}-{uuid4()}"
        self.world.wait(self.mandate.begin(defaultUserCredit=Decimal(0)))

    @rule(price=prices, model=st.sampled_from(["a", "b"]), days=st.integers(0, 70))
    def use(self, price: Decimal, model: str, days: int) -> None:
        at = self.mandate.now - timedelta(days=days)
        event = self.world.wait(self.mandate.use(price, at=at, model=model))
        if not price:
            return
        self.charges.append(event)
        if self.model == "CREDIT_POSTPAY":
            self.postpaid[event] = int(price * CHF)
            self.used_in_postpay += int(price * CHF)
        self.world.seen["used late" if days > 31 else "used"] += 1

    @rule(data=st.data())
    def reverse(self, data: st.DataObject) -> None:
        if not self.charges:
            return
        event = self.charges.pop(data.draw(st.integers(0, len(self.charges) - 1)))
        self.world.wait(self.mandate.reverse(event))
        taken = self.postpaid.pop(event, 0)
        if self.model == "CREDIT_POSTPAY":
            self.used_in_postpay -= taken
            self.world.seen["taken back"] += bool(taken)

    @rule(days=st.sampled_from([1, 9]))
    def wait(self, days: int) -> None:
        self.mandate.later(days=days)
        expire = ExpireGrants(self.world.database, clock=self.mandate.clock)
        while self.world.wait(expire()):
            pass

    @rule(price=prices, days=st.sampled_from([31, 31, 62]), part=st.sampled_from(["none", "all", "less", "more"]))
    def close(self, price: Decimal, days: int, part: str) -> None:
        """Months go by, in the last of which something was used before."""
        self.use(price, "a", 0)
        self.wait(days)
        job = CloseMonths(self.world.database, settings=INVOICES, clock=self.mandate.clock, faults=FaultPoints(None))
        before = len(self.world.wait(self.mandate.invoices()))
        while self.world.wait(job()):
            self.world.seen["closed"] += 1
        found = self.world.wait(self.mandate.invoices())
        if len(found) == before:
            return
        unspent = self.world.wait(self._unspent())
        if _micros(found[-1]["total"]):
            # Nothing is asked for while there is money that was not used for it.
            assert unspent < CHF // 100
            self.world.seen["asked"] += 1
            self._pay(found[-1], part)
        # Nothing is owed that no invoice asks for.
        assert unspent > -CHF // 100
        self.world.seen["brought forward"] += any(line["kind"] == "BALANCE" for line in found[-1]["lines"])

    @rule(amount=sums, days=st.sampled_from([5, 400]))
    def give_budget(self, amount: int, days: int) -> None:
        now = self.mandate.now
        plan = Plan(key="TEAM", budget=money(amount))
        end = now + timedelta(days=days)
        given = subscription(
            self.mandate.id, uuid4(), 1, "ACTIVE", plan=plan, at=now, period_start=now, period_end=end, budget_due=True
        )
        self.world.wait(ApplySubscription(self.world.database, clock=self.mandate.clock)([given], []))

    @rule(amount=sums)
    def top_up(self, amount: int) -> None:
        event = paid(self.mandate.id, amount, paid_at=self.mandate.now)
        self.world.wait(CreditPayments(self.world.database, clock=self.mandate.clock)([event], []))
        self.payments.append((None, Decimal(amount)))

    @rule(data=st.data(), outcome=st.sampled_from(["refund", "dispute_lost"]))
    def refund(self, data: st.DataObject, outcome: str) -> None:
        if not self.payments:
            return
        invoice, amount = self.payments.pop(data.draw(st.integers(0, len(self.payments) - 1)))
        of_invoice = {} if invoice is None else {"reason": "invoice", "reference": invoice}
        event = refunded(self.mandate.id, str(amount), outcome=outcome, refunded_at=self.mandate.now, **of_invoice)
        self.world.wait(RefundPayments(self.world.database, clock=self.mandate.clock)([event], []))
        self.world.seen["refunded"] += invoice is not None

    @rule(amount=by_hand)
    def deduct(self, amount: Decimal) -> None:
        if self.model == "PREPAY_USER":
            # It has to name a member.
            return
        self.world.wait(self.mandate.deduct(amount))

    @rule(data=st.data(), part=st.sampled_from(["all", "all", "less", "more"]))
    def pay(self, data: st.DataObject, part: str) -> None:
        waiting = [each for each in self.world.wait(self.mandate.invoices()) if Decimal(each["open"]["amount"])]
        if not waiting:
            return
        invoice = waiting[data.draw(st.integers(0, len(waiting) - 1))]
        self._pay(invoice, part)

    def _pay(self, invoice: dict[str, Any], part: str) -> None:
        due = Decimal(invoice["open"]["amount"])
        amount = {"none": Decimal(0), "all": due, "less": due / 2, "more": due + 3}[part].quantize(Decimal("0.01"))
        if amount:
            assert self.world.wait(self.mandate.pay(invoice["id"], str(amount))) == []
            self.payments.append((invoice["id"], amount))
            self.world.seen[f"paid {part}"] += 1

    @rule(model=st.sampled_from([*["CREDIT_POSTPAY"] * 6, "PREPAY_MANDATE", "PREPAY_USER", "UNLIMITED"]))
    def switch(self, model: Any) -> None:
        try:
            self.world.wait(self.mandate.switch(model))
        except ModelUnchanged:
            return
        self.model = model
        self.world.seen[f"switched to {model}"] += 1

    @invariant()
    def invoices_are_what_was_used(self) -> None:
        found = self.world.wait(self._found())
        charged = sum(
            _micros(line["cost"])
            for invoice in found["invoices"]
            for line in invoice["lines"]
            if line["kind"] in ("USAGE", "STORAGE", "CORRECTION")
        )
        if self.model == "CREDIT_POSTPAY" and not found["left"]:
            assert charged + found["later"] == self.used_in_postpay
        for invoice in found["invoices"]:
            assert _micros(invoice["net"]) + _micros(invoice["vat"]) == _micros(invoice["total"])
        failing = {check.name: check.failing for check in found["audit"] if check.failing}
        assert failing == {}

    async def _unspent(self) -> int:
        """What the pool would have as paid credit, if all that is asked for and will be were paid (micro-CHF)."""
        async with self.world.database.reading() as connection:
            number = await self.mandate.no()
            pool, span = await read_pool(connection, number), await read_open_span(connection, number)
            assert pool is not None
            assert span is not None
            last = await read_last_invoice(connection, number, span)
            rows = Rows(number, pool.no, first_row(last, span.from_seq), pool.seq, date(2000, 1, 1), last)
            later = (await read_usage(connection, rows)).later
            return pool.balance - pool.granted + later + last.carry + await open_amount(connection, number)

    async def _found(self) -> dict[str, Any]:
        """The invoices, the audit, what no invoice has yet, and whether a switch left anything that none will have."""
        async with on_driver(self.world.database) as driver:
            later = await driver.fetchval(_LATER, self.mandate.id)
            left = await driver.fetchval(_LEFT, self.mandate.id)
            checks = await audit(driver)
        return {"invoices": await self.mandate.invoices(), "later": int(later), "left": left, "audit": checks}


# What the pool's rows of the present span come to that no invoice has, corrections of charges of other models aside.
_LATER = """
    WITH mine AS (SELECT no FROM mandates WHERE id = $1),
         span AS (SELECT * FROM postpay_spans WHERE mandate_no = (SELECT no FROM mine)),
         pool AS (SELECT no FROM accounts WHERE mandate_no = (SELECT no FROM mine) AND type = 'MANDATE')
    SELECT coalesce(sum(CASE t.transaction_type WHEN 'DEBIT' THEN t.amount ELSE -t.amount END), 0)
      FROM transactions t
      JOIN span s ON s.to_seq IS NULL AND t.seq > s.from_seq
     WHERE t.mandate_no = (SELECT no FROM mine) AND t.posted_account_no = (SELECT no FROM pool)
       AND t.contra_account = 'REVENUE'
       AND NOT EXISTS (SELECT FROM invoices i WHERE i.mandate_no = t.mandate_no AND t.seq <= i.up_to_seq
                          AND t.period_day <= i.through_day)
       AND (t.transaction_type = 'DEBIT' OR EXISTS (
            SELECT FROM transactions c JOIN span o ON c.seq > o.from_seq AND c.seq <= coalesce(o.to_seq, c.seq)
             WHERE c.mandate_no = t.mandate_no AND c.posted_account_no = t.posted_account_no
               AND c.contra_account = 'REVENUE' AND c.transaction_type = 'DEBIT'
               AND right(replace(t.reference_id, '-', ''), 15) = lpad(to_hex(c.seq), 15, '0')))
"""
# Whether a span ended with rows that no invoice has, because they came to nothing or less.
_LEFT = """
    SELECT EXISTS (
        SELECT FROM postpay_spans s JOIN mandates m ON m.no = s.mandate_no
          JOIN accounts a ON a.mandate_no = m.no AND a.type = 'MANDATE'
          JOIN transactions t ON t.mandate_no = m.no AND t.posted_account_no = a.no AND t.contra_account = 'REVENUE'
           AND t.seq > s.from_seq AND t.seq <= s.to_seq
         WHERE m.id = $1 AND NOT EXISTS (SELECT FROM invoices i WHERE i.mandate_no = m.no AND t.seq <= i.up_to_seq
                                           AND t.period_day <= i.through_day
                                           AND i.up_to_seq > s.from_seq AND i.up_to_seq <= s.to_seq))
"""


def _micros(amount: dict[str, str]) -> int:
    return int(Decimal(amount["amount"]) * CHF)


def test_any_history_is_invoiced_once(world: World) -> None:
    machine = type("InvoicesOfTheWorld", (Invoices,), {"world": world})
    reached = {"used", "used late", "taken back", "closed", "asked", "paid more", "refunded", "brought forward"}
    run_until_reached(machine, world, reached, runs=30, steps=30)
    assert any(name.startswith("switched to") for name in world.seen)
