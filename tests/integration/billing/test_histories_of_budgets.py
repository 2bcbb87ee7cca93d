"""Random histories of several periods, of what went back of their payments and of what came back after all: the ledger
is held against a model that knows nothing of its order."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID, uuid4

import pytest

from rappen_contracts.subscription.v1 import Plan
from services.billing.credits.apply_subscription import ApplySubscription
from services.billing.credits.expire_grants import ExpireGrants
from services.billing.credits.payment_events import CreditPayments, RefundPayments
from services.chassis.consumer import Received
from services.chassis.database import Database
from tests.integration.billing.conftest import BillingApi
from tests.integration.billing.test_grants import BEFORE, LATER, START, spend
from tests.support.callers import admin_of
from tests.support.databases import opened
from tests.support.events import new_mandate, usage_record
from tests.support.facts import money, paid, refunded, subscription
from tests.support.invoicing import ADDRESS
from tests.support.ledger import Books
from tests.support.stack import ServerPair

MODELS = ("PREPAY_MANDATE", "PREPAY_USER", "CREDIT_POSTPAY", "UNLIMITED")
FIRST = ("admin-1", "user-1", "user-2")
# Of each kind; hundreds of others ended as well.
SEEDS = range(100, 104)


@dataclass
class Back:
    """A refund or dispute of a payment: what it takes at present, in hundredths, and how often it took."""

    id: str
    held: int = 0
    count: int = 0


@dataclass
class Payment:
    """The payment of a period, with all that was told of it."""

    subscription_id: UUID
    number: int
    units: int
    budget: Decimal
    budget_per: str
    rollover: bool
    start: datetime
    end: datetime
    backs: list[Back] = field(default_factory=list)
    given: int = 0

    @property
    def gone(self) -> int:
        return sum(each.held for each in self.backs)

    @property
    def left(self) -> int:
        """What stays of what was given, in micro-CHF."""
        return self.given - int(self.given * min(Fraction(self.gone, self.units), Fraction(1)))

    def due(self, members: int) -> int:
        """What is given where there are so many members."""
        return int(self.budget * 1_000_000) * (members if self.budget_per == "member" else 1)


# A topic and an event.
Fact = tuple[str, Received]


def facts_of(mandate: str, payment: Payment, rnd: random.Random) -> list[Fact]:
    """What payments tells of a payment, in the order in which it does: more than the whole never, like there."""
    facts: list[Fact] = []
    about = {"reason": "subscription", "reference": f"in_{payment.number}", "subscription_id": payment.subscription_id}
    for _ in range(rnd.randrange(8)):
        standing = [each for each in payment.backs if each.held]
        what = rnd.random()
        if standing and what < 0.35:
            back = rnd.choice(standing)
            told = back.id if back.count == 1 else f"{back.id}/{back.count}"
            amount = str(Decimal(back.held) / 100)
            facts.append(("succeeded", paid(mandate, amount, reason="subscription", reference=told)))
            back.held = 0
            continue
        if payment.backs and what < 0.6:
            back = rnd.choice([each for each in payment.backs if each.id.startswith("du_")] or [Back("")])
            if not back.id:
                continue
        else:
            back = Back(f"{rnd.choice(['re', 'du'])}_{payment.number}x{len(payment.backs)}")
            payment.backs.append(back)
        room = payment.units - payment.gone
        # A bank may take more than was paid; another system, too.
        if rnd.random() < 0.1:
            room += rnd.randrange(1, payment.units + 1)
        units = room if rnd.random() < 0.3 else rnd.randrange(room + 1) if room > 0 else 0
        if units <= 0:
            continue
        back.held, back.count = back.held + units, back.count + 1
        facts.append(
            (
                "refunded",
                refunded(
                    mandate,
                    str(Decimal(units) / 100),
                    outcome="refund" if back.id.startswith("re") else "dispute_lost",
                    refund_id=back.id if back.count == 1 else f"{back.id}/{back.count}",
                    period_start=payment.start,
                    paid_amount=money(str(Decimal(payment.units) / 100)),
                    refunded_at=START + timedelta(seconds=rnd.randrange(1000)),
                    **about,
                ),
            )
        )
    return facts


def interleaved(streams: list[list[Fact]], rnd: random.Random) -> Iterator[Fact]:
    """Each stream in its order."""
    waiting = [list(each) for each in streams if each]
    while waiting:
        stream = rnd.choice(waiting)
        yield stream.pop(0)
        waiting = [each for each in waiting if each]


class History:
    """A mandate, its members and its model by now."""

    def __init__(self, api: BillingApi, seed: int) -> None:
        self.api, self.rnd, self.mandate = api, random.Random(seed), new_mandate()
        self.members, self.model = set(FIRST), "PREPAY_MANDATE"
        self.at = START

    async def open(self) -> None:
        await self.api.directory(self.mandate, {each: ["member"] for each in FIRST})
        path = f"/api/billing/admin/settings/{self.mandate}"
        answer = await self.api.call(admin_of(self.mandate), "POST", path, json={"billingAddress": ADDRESS})
        assert answer.status_code == 200, answer.text
        await self.switch(self.rnd.choice(MODELS))

    async def switch(self, model: str) -> None:
        if model != self.model:
            await self.api.switch(self.mandate, model)
            self.model = model

    async def change_members(self) -> None:
        every = [*FIRST, "user-3", "user-4"]
        self.members = set(self.rnd.sample(every, self.rnd.randrange(1, 6)))
        gone = tuple(each for each in every if each not in self.members)
        await self.api.directory(self.mandate, {each: ["member"] for each in every}, disabled=gone)

    async def goes_on(self, kind: str) -> None:
        """What happens between two events, whose clocks need not agree."""
        if self.rnd.random() < 0.3:
            await self.change_members()
        if ("switches" in kind or "spent" in kind) and self.rnd.random() < 0.3:
            await self.switch(self.rnd.choice(MODELS))
        if "spent" in kind and self.rnd.random() < 0.5:
            amount = str(Decimal(self.rnd.randrange(1, 12_000_000)) / 1_000_000)
            who = self.rnd.choice(sorted(self.members))
            await spend(self.api, [usage_record(self.mandate, who, amount=amount)], self.at)
        self.at += timedelta(seconds=self.rnd.choice([0, 1, 1, -5]))

    def payments(self, rollover: bool) -> list[Payment]:
        made, number = [], 0
        for subscription_id in (uuid4(), uuid4())[: self.rnd.randrange(1, 3)]:
            for period in range(self.rnd.randrange(1, 4)):
                start, end = BEFORE + timedelta(days=period), LATER + timedelta(days=period + number)
                number += 1
                # A switch of the plan is another budget of the next period.
                budget = Decimal(self.rnd.randrange(1, 30_000_000)) / 1_000_000
                per = self.rnd.choice(["member", "mandate"])
                units = self.rnd.choice([1, 3, 100, 6713, 9999])
                made.append(Payment(subscription_id, number, units, budget, per, rollover, start, end))
        return made

    def budget_of(self, payment: Payment) -> Received:
        plan = Plan(
            key=f"P{payment.number}",
            budget=money(str(payment.budget)),
            budget_per=payment.budget_per,
            rollover=payment.rollover,
        )
        return subscription(
            self.mandate,
            payment.subscription_id,
            payment.number,
            "ACTIVE",
            plan=plan,
            period_start=payment.start,
            period_end=payment.end,
            budget_due=True,
        )

    async def tell(self, database: Database, topic: str, events: list[Received]) -> list[str]:
        handler = {"subscription": ApplySubscription, "refunded": RefundPayments, "succeeded": CreditPayments}[topic]
        at = self.at
        return [each.code for each in await handler(database, clock=lambda: at)(events, [])]


async def sums(books: Books, mandate: str) -> tuple[int, int, int]:
    """What the budgets have moved in all, what remains of grants, and how many grants have less than nothing, or more
    than they were."""
    no = await books.value("SELECT no FROM mandates WHERE id = $1", mandate)
    rows = await books.rows(mandate)
    moved = sum(row["amount"] for row in rows if row["contra_account"] == "SUBSCRIPTION_GRANT")
    remaining = int(await books.value("SELECT coalesce(sum(remaining), 0) FROM grants WHERE mandate_no = $1", no))
    count = "SELECT count(*) FROM grants WHERE mandate_no = $1 AND (remaining < 0 OR remaining > amount)"
    wrong = int(await books.value(count, no))
    return moved, remaining, wrong


async def live(history: History, books: Books, payments: list[Payment], kind: str) -> None:
    """Tells of all, each topic in its order or in none, with repeats, and of members, models and usage in between."""
    rnd, database = history.rnd, history.api.database
    facts = [fact for each in payments for fact in facts_of(history.mandate, each, rnd)]
    refunds, others = ([each for each in facts if each[0] == topic] for topic in ("refunded", "succeeded"))
    budgets: list[Fact] = [("subscription", history.budget_of(each)) for each in payments]
    of_budget = {id(event): each for (_, event), each in zip(budgets, payments, strict=True)}
    if rnd.random() < 0.5:
        for topic_facts in (refunds, others, budgets):
            rnd.shuffle(topic_facts)
    told: list[Fact] = []
    for topic, event in interleaved([refunds, others, budgets], rnd):
        await history.goes_on(kind)
        if (payment := of_budget.get(id(event))) is not None:
            payment.given = payment.due(len(history.members))
        told.append((topic, event))
        assert await history.tell(database, topic, [event, event] if rnd.random() < 0.2 else [event]) == []
        if rnd.random() < 0.2:
            again, repeated = rnd.choice(told)
            assert await history.tell(database, again, [repeated]) == []
        moved, remaining, wrong = await sums(books, history.mandate)
        assert (moved >= 0, remaining >= 0, wrong) == (True, True, 0)


async def taken_of_each(books: Books, mandate: str) -> dict[tuple[UUID, datetime], int]:
    """What is taken of the budget of each period."""
    read = (
        "SELECT b.subscription_id, b.period_start, -sum(b.amount) AS taken FROM budget_movements b"
        " JOIN mandates m ON m.no = b.mandate_no WHERE m.id = $1 GROUP BY 1, 2"
    )
    rows = await books.fetch(read, mandate)
    return {(row["subscription_id"], row["period_start"]): int(row["taken"]) for row in rows}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["still", "switches", "rollover", "rollover, switches", "spent", "rollover, spent"])
async def test_whatever_the_history_each_budget_has_what_the_model_says(
    api: BillingApi, books: Books, kind: str
) -> None:
    """With members who come and go; `spent`, where it depends on the order of usage, no more is taken than the model
    says, nor more than there is."""
    for seed in SEEDS:
        history = History(api, seed)
        await history.open()
        payments = history.payments(rollover="rollover" in kind)
        await live(history, books, payments, kind)
        moved, remaining, _ = await sums(books, history.mandate)
        expected = sum(each.left for each in payments)
        if "spent" not in kind:
            assert (moved, remaining) == (expected, expected), seed
            continue
        assert expected <= moved <= sum(each.given for each in payments), seed
        taken = await taken_of_each(books, history.mandate)
        for each in payments:
            assert 0 <= taken.get((each.subscription_id, each.start), 0) <= each.given - each.left, seed
        await ExpireGrants(api.database, clock=lambda: LATER + timedelta(days=30))()
        assert (await sums(books, history.mandate))[1] == 0 or "rollover" in kind
    assert await books.failing() == {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rollover", [False, True])
async def test_two_workers_that_are_told_of_all_at_once_book_what_the_model_says(
    api: BillingApi, books: Books, servers: ServerPair, rollover: bool
) -> None:
    """Each fact twice, by two processes' pools, with all others at the same time."""
    async with opened(servers.dsn("billing"), pool_size=4) as other:
        for seed in SEEDS:
            history = History(api, 10_000 + seed)
            await history.open()
            payments = history.payments(rollover)
            facts = [("subscription", history.budget_of(each)) for each in payments]
            facts += [fact for each in payments for fact in facts_of(history.mandate, each, history.rnd)]
            told = [(database, *fact) for fact in facts for database in (api.database, other)]
            history.rnd.shuffle(told)
            refused = await asyncio.gather(*(history.tell(database, topic, [event]) for database, topic, event in told))
            assert not any(refused)
            for payment in payments:
                payment.given = payment.due(len(FIRST))
            expected = sum(each.left for each in payments)
            assert await sums(books, history.mandate) == (expected, expected, 0), seed
    assert await books.failing() == {}
