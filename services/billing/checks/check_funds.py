"""Answers whether an AI call may go ahead, by one statement that concurrent checks share; by two where the mandate has
limits."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import asyncpg

from services.billing.checks.domain import Decision, Eligibility, Funds, decide
from services.billing.checks.eligibility import Asked, EligibilityBatcher, Found
from services.billing.checks.errors import PriceUnknown
from services.billing.checks.providers import allowed
from services.billing.errors import InvalidField
from services.billing.ledger.keys import AccountKey, ensure_accounts, ensure_mandates
from services.billing.mandates.errors import MandateUnknown
from services.billing.mandates.open_accounts import open_member_accounts
from services.billing.mandates.repository import lock_mandates
from services.billing.money import Markup, money_json, post
from services.billing.pricing.rating import Billable, Parked, Tariff, rate_usage
from services.billing.pricing.repository import Tariffs
from services.billing.settings import BillingSettings
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["Answer", "CheckFunds", "Question"]


@dataclass(frozen=True, slots=True)
class Question:
    """Who wants to spend how much; exactly one of the two estimates is set. `estimated_cost` is final CHF."""

    mandate_id: str
    user_id: str
    estimated_cost: Decimal | None
    estimate: Billable
    provider: str | None
    model: str | None = None
    feature_instance_id: str | None = None

    @property
    def asked(self) -> Asked:
        """What has to be read to answer it."""
        return Asked(self.mandate_id, self.user_id, self.provider, self.model, self.feature_instance_id)


@dataclass(frozen=True, slots=True)
class Answer:
    """The decision with the figures it was made on, in micro-CHF."""

    decision: Decision
    funds: Funds
    required: int

    def json(self) -> dict[str, Any]:
        """The body of an answer."""
        return {"allowed": self.decision.reason is None, "reason": self.decision.reason, **self.figures()}

    def figures(self) -> dict[str, Any]:
        """The figures alone, as an answer shows them."""
        return {
            "currentBalance": money_json(self.funds.balance),
            "heldAmount": money_json(self.funds.held),
            "requiredAmount": money_json(self.required),
            "shortfall": money_json(self.decision.shortfall),
            "billingModel": self.funds.model,
        }


class _Price(NamedTuple):
    """The final price in micro-CHF, rounded once as a charge would be; whether usage as estimated costs nothing at
    all."""

    required: int
    free: bool


class CheckFunds:
    """Answers checks. Reads only, but for a mandate or member whose settings or account were never made."""

    def __init__(self, database: Database, tariffs: Tariffs, settings: BillingSettings, clock: Clock) -> None:
        self._database = database
        self._eligibility = EligibilityBatcher(database, clock)
        self._tariffs = tariffs
        self._settings = settings
        self._clock = clock

    async def __call__(self, question: Question) -> Answer:
        """Decides; 404 for a mandate that the directory does not know, 422 for what cannot be priced."""
        found = await self.read(question)
        return self.decide(question, found, await self._tariff(found.row["revision"]))

    async def read(self, question: Question) -> Found:
        """What decides, with settings and accounts that are there; 404 for a mandate that the directory does not
        know."""
        found = await self._eligibility.read(question.asked)
        row = found.row
        if not row["known"]:
            raise MandateUnknown
        if row["mandate_no"] is None or (row["member"] and (row["own_no"] is None or row["pool_no"] is None)):
            await self._open(question, member=bool(row["member"]))
            found = await self._eligibility.read(question.asked)
        return found

    async def _open(self, question: Question, *, member: bool) -> None:
        """Makes what is missing: settings, the pool, and the member's account with its opening credit."""
        async with self._database.transaction() as connection:
            number = (await ensure_mandates(connection, [question.mandate_id]))[question.mandate_id]
            mandates = await lock_mandates(connection, [number])
            await ensure_accounts(connection, [AccountKey(number, "MANDATE")])
            if member:
                members = [(number, question.user_id)]
                await open_member_accounts(connection, members, mandates=mandates, now=self._clock())

    def decide(self, question: Question, found: Found, tariff: Tariff, *, reserved: int = 0) -> Answer:
        """Decides by what was read; `reserved` (micro-CHF) is held beside what the row says. 422 for what cannot be
        priced."""
        row = found.row
        price = self._price(question, row, tariff)
        own = row["billing_model"] == "PREPAY_USER"
        unlimited = row["billing_model"] == "UNLIMITED"
        held = ((row["own_held"] if own else row["pool_held"]) or 0) + reserved
        funds = Funds(
            model=row["billing_model"],
            balance=0 if unlimited else (row["own_balance"] if own else row["pool_balance"]) or 0,
            held=0 if unlimited else held,
            credit_limit=row["credit_limit"],
            block_on_zero_balance=row["block_on_zero_balance"],
        )
        eligibility = Eligibility(
            member=bool(row["member"]),
            account_enabled=row["own_enabled"] is not False and (own or row["pool_enabled"] is not False),
            provider_allowed=self._provider_allowed(question.provider, row, tariff),
            subscription_operative=row["subscription_operative"],
        )
        decision = decide(eligibility, funds, price.required, limits=found.limits, free=price.free)
        return Answer(decision, funds, price.required)

    async def _tariff(self, revision: int) -> Tariff:
        known = self._tariffs.known(revision)
        if known is not None:
            return known
        async with self._database.reading() as connection:
            return await self._tariffs.at(connection, revision)

    def _price(self, question: Question, row: asyncpg.Record, tariff: Tariff) -> _Price:
        if question.estimate is None:
            amount, rest = post(question.estimated_cost or Decimal(0), Decimal(0))
            if rest:
                raise InvalidField("estimatedCost", en="at most six decimals", de="höchstens sechs Nachkommastellen")
            return _Price(amount, free=False)
        markup = row["markup_percent"]
        if markup is None:
            markup = row["plan_markup_percent"]
        if markup is None:
            markup = self._settings.default_markup_percent
        rated = rate_usage(question.estimate, self._clock(), tariff, Markup.of(markup))
        if isinstance(rated, Parked):
            raise PriceUnknown(rated.reason, rated.detail)
        return _Price(post(rated.exact, Decimal(0))[0], free=rated.exact == 0)

    def _provider_allowed(self, provider: str | None, row: asyncpg.Record, tariff: Tariff) -> bool:
        """Whether one of the member's roles allows the provider: a role's rows replace its default, and unknown roles
        allow nothing."""
        if provider is None:
            return True
        catalogue = tariff.book.providers() | frozenset(self._settings.additional_providers)
        granting = row["granting_roles"] or []
        permissions = {role: [provider] if role in granting else [] for role in row["ruled_roles"] or []}
        return provider in allowed(row["roles"] or [], permissions, catalogue, self._settings.provider_roles)
