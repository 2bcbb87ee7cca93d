"""Answering whether an AI call may go ahead, from one statement on the hot path."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import asyncpg

from services.billing.domain.charging import Billable, Parked, rate_usage
from services.billing.domain.checks import Decision, Funds, Standing, decide
from services.billing.domain.money import Markup, from_micro, post
from services.billing.errors import InvalidField, MandateUnknown, PriceUnknown
from services.billing.queries.providers import allowed
from services.billing.repository.keys import AccountKey, ensure_accounts, ensure_mandates
from services.billing.repository.prices import Tariffs
from services.billing.settings import BillingSettings
from services.billing.use_cases.open_accounts import open_member_accounts
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["Answer", "CheckFunds", "Question"]

_STATEMENT = """
SELECT d.id IS NOT NULL AS known,
       d.enabled AND s.enabled AND coalesce(u.enabled, true) AS member, s.roles,
       m.no AS mandate_no, m.billing_model, m.block_on_zero_balance, m.subscription_operative,
       m.markup_percent, m.plan_markup_percent,
       pool.no AS pool_no, pool.enabled AS pool_enabled, pool.balance AS pool_balance, pool.held AS pool_held,
       pool.credit_limit,
       own.no AS own_no, own.enabled AS own_enabled, own.balance AS own_balance, own.held AS own_held,
       p.granting_roles, p.ruled_roles, b.revision
  FROM price_book b
  LEFT JOIN directory_mandates d ON d.id = $1
  LEFT JOIN directory_members s ON s.mandate_id = $1 AND s.user_id = $2
  LEFT JOIN directory_users u ON u.id = $2
  LEFT JOIN mandates m ON m.id = $1
  LEFT JOIN accounts pool ON pool.mandate_no = m.no AND pool.type = 'MANDATE' AND pool.user_id IS NULL
  LEFT JOIN accounts own ON own.mandate_no = m.no AND own.type = 'USER' AND own.user_id = $2
 CROSS JOIN LATERAL (
       SELECT array_agg(role) AS ruled_roles,
              array_agg(role) FILTER (WHERE $3::text = ANY (providers)) AS granting_roles
         FROM provider_permissions WHERE mandate_id = $1 AND providers IS NOT NULL) p
"""


@dataclass(frozen=True, slots=True)
class Question:
    """Who wants to spend what; exactly one of the two estimates is there. `estimated_cost` is final CHF."""

    mandate_id: str
    user_id: str
    estimated_cost: Decimal | None
    estimate: Billable
    provider: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The decision with the figures it was made on, in micro-CHF."""

    decision: Decision
    funds: Funds
    required: int

    def json(self) -> dict[str, Any]:
        """The body of an answer."""
        return {
            "allowed": self.decision.reason is None,
            "reason": self.decision.reason,
            "currentBalance": _money(self.funds.balance),
            "heldAmount": _money(self.funds.held),
            "requiredAmount": _money(self.required),
            "shortfall": _money(self.decision.shortfall),
            "billingModel": self.funds.model,
        }


class CheckFunds:
    """L8. Reads only, but for a mandate or member whose settings or account were never made."""

    def __init__(self, database: Database, tariffs: Tariffs, settings: BillingSettings, clock: Clock) -> None:
        self._database = database
        self._tariffs = tariffs
        self._settings = settings
        self._clock = clock

    async def __call__(self, question: Question) -> Answer:
        """Decides; 404 for a mandate that the directory does not know, 422 for what cannot be priced."""
        async with self._database.bare() as connection:
            row = await self._read(connection, question)
            if not row["known"]:
                # Usage makes settings and a pool for any mandate, so these say nothing.
                raise MandateUnknown
            if row["mandate_no"] is None or (row["member"] and (row["own_no"] is None or row["pool_no"] is None)):
                await self._open(connection, question, member=bool(row["member"]))
                row = await self._read(connection, question)
            return await self._answer(connection, question, row)

    async def _read(self, connection: asyncpg.Connection, question: Question) -> asyncpg.Record:
        return await connection.fetchrow(_STATEMENT, question.mandate_id, question.user_id, question.provider)

    async def _open(self, connection: asyncpg.Connection, question: Question, *, member: bool) -> None:
        """Makes what is missing: settings, the pool, and the member's account with its opening credit."""
        async with connection.transaction():
            number = (await ensure_mandates(connection, [question.mandate_id]))[question.mandate_id]
            await ensure_accounts(connection, [AccountKey(number, "MANDATE")])
            if member:
                await open_member_accounts(connection, [(number, question.user_id)], now=self._clock())

    async def _answer(self, connection: asyncpg.Connection, question: Question, row: asyncpg.Record) -> Answer:
        required = await self._required(connection, question, row)
        own = row["billing_model"] == "PREPAY_USER"
        unlimited = row["billing_model"] == "UNLIMITED"
        funds = Funds(
            model=row["billing_model"],
            balance=0 if unlimited else (row["own_balance"] if own else row["pool_balance"]) or 0,
            held=0 if unlimited else (row["own_held"] if own else row["pool_held"]) or 0,
            credit_limit=row["credit_limit"],
            block_on_zero_balance=row["block_on_zero_balance"],
        )
        standing = Standing(
            member=bool(row["member"]),
            account_enabled=row["own_enabled"] is not False and (own or row["pool_enabled"] is not False),
            provider_allowed=await self._provider_allowed(connection, question.provider, row),
            subscription_operative=row["subscription_operative"],
        )
        return Answer(decide(standing, funds, required), funds, required)

    async def _required(self, connection: asyncpg.Connection, question: Question, row: asyncpg.Record) -> int:
        """The final price in micro-CHF, rounded once as a charge would be."""
        if question.estimate is None:
            amount, rest = post(question.estimated_cost or Decimal(0), Decimal(0))
            if rest:
                raise InvalidField("estimatedCost", "at most six decimals")
            return amount
        markup = row["markup_percent"]
        if markup is None:
            markup = row["plan_markup_percent"]
        if markup is None:
            markup = self._settings.default_markup_percent
        tariff = await self._tariffs.at(connection, row["revision"])
        rated = rate_usage(question.estimate, self._clock(), tariff, Markup.of(markup))
        if isinstance(rated, Parked):
            raise PriceUnknown(why=rated.detail)
        return post(rated.exact, Decimal(0))[0]

    async def _provider_allowed(
        self, connection: asyncpg.Connection, provider: str | None, row: asyncpg.Record
    ) -> bool:
        """G5: a role's rows replace its default; whatever cannot be determined denies."""
        if provider is None:
            return True
        tariff = await self._tariffs.at(connection, row["revision"])
        catalogue = tariff.book.providers() | frozenset(self._settings.additional_providers)
        granting = row["granting_roles"] or []
        permissions = {role: [provider] if role in granting else [] for role in row["ruled_roles"] or []}
        return provider in allowed(row["roles"] or [], permissions, catalogue, self._settings.provider_roles)


def _money(micros: int) -> dict[str, str]:
    return {"amount": format(from_micro(micros), "f"), "currency": "CHF"}
