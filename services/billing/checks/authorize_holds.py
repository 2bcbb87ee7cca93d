"""Authorizing: an amount is reserved where a check allows it, decided under the lock of its mandate."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from services.billing.checks.check_funds import CheckFunds, Question
from services.billing.checks.eligibility import Found, read_eligibility
from services.billing.checks.errors import HoldRefused
from services.billing.checks.together import Locked, Together
from services.billing.errors import InvalidField
from services.billing.ledger.domain import BALANCE_MAX, hold_id
from services.billing.ledger.holds import NewHold, insert_holds
from services.billing.mandates.answers import KeyedPlace, KeyedRequest, keep_answers, kept_answers_of
from services.billing.mandates.errors import MandateUnknown
from services.billing.mandates.repository import lock_pricing_versions
from services.billing.money import money_json
from services.billing.pricing import utc_text
from services.billing.pricing.rating import Tariff
from services.billing.pricing.repository import Tariffs
from services.chassis.clock import Clock
from services.chassis.database import Contended, Database
from services.chassis.faults import FaultPoints
from services.chassis.problems import IdempotencyMismatch, Problem

__all__ = ["AuthorizeHolds", "HoldRequest"]

ACTION = "hold"
# How many mandates' numbers a process remembers, about 200 bytes each.
NUMBERS_MAX = 50_000
Outcome = dict[str, Any] | Exception


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """What is to be reserved, for how long, and by whom; `body` is all that a repeat with the same key must have in
    common with the first request."""

    question: Question
    ttl_s: int
    actor: str
    key: str | None
    body: str


@dataclass(frozen=True, slots=True)
class _Asked:
    request: HoldRequest
    keyed: KeyedRequest


class AuthorizeHolds:
    """Reserves amounts. Those that wait together are decided one after the other in one transaction."""

    def __init__(
        self,
        database: Database,
        together: Together,
        check_funds: CheckFunds,
        tariffs: Tariffs,
        *,
        clock: Clock,
        faults: FaultPoints,
    ) -> None:
        self._database = database
        self._together = together
        self._check_funds = check_funds
        self._tariffs = tariffs
        self._clock = clock
        self._faults = faults
        # By id; a number never changes.
        self._numbers: dict[str, int] = {}

    async def __call__(self, request: HoldRequest) -> dict[str, Any]:
        """The hold as it is answered; a repeat with the same key gets the first answer. A refusal stores nothing.

        402 with the reason of a check, 404 for a mandate that the directory does not know, 422 for what cannot be
        priced and for a key that was used for another request.
        """
        number = self._numbers.get(request.question.mandate_id)
        if number is not None:
            try:
                return await self._together(self._authorize, _asked(request, number), number)
            except Contended:
                # There is no account yet; it is made first.
                pass
        number = await self._number(request.question)
        return await self._together(self._authorize, _asked(request, number), number)

    async def _number(self, question: Question) -> int:
        """The number of a mandate, with accounts that are there for who asks."""
        number: int = (await self._check_funds.read(question)).row["mandate_no"]
        if len(self._numbers) >= NUMBERS_MAX:
            self._numbers.clear()
        self._numbers[question.mandate_id] = number
        return number

    async def _authorize(self, asked: Sequence[_Asked], wait: bool) -> list[Outcome]:
        self._faults.reach("authorize_before_transaction")
        async with self._database.transaction() as connection:
            numbers = {each.keyed.mandate_no for each in asked}
            locked = await lock_pricing_versions(connection, numbers, wait=wait)
            mine = [each for each in asked if each.keyed.mandate_no in locked]
            if not mine:
                return [Locked()] * len(asked)
            # After the locks, which may have been waited for.
            now = self._clock()
            kept = await kept_answers_of(connection, [each.keyed for each in mine])
            found = await read_eligibility(connection, [each.request.question.asked for each in mine], now=now)
            tariff = await self._tariffs.at(connection, max(each.row["revision"] for each in found))
            deciding = _Deciding(self._check_funds, tariff, kept)
            outcomes = {id(each): deciding.outcome(each, of, now) for each, of in zip(mine, found, strict=True)}
            await insert_holds(connection, deciding.holds)
            await keep_answers(connection, deciding.answered, now=now)
            self._faults.reach("authorize_before_commit")
        self._faults.reach("authorize_after_commit")
        return [outcomes.get(id(each), Locked()) for each in asked]


def _asked(request: HoldRequest, mandate_no: int) -> _Asked:
    return _Asked(request, KeyedRequest(ACTION, mandate_no, request.actor, request.key, request.body))


class _Deciding:
    """Decides requests one after the other, as if each had a transaction of its own; what it leads to is written for
    all of them at once."""

    def __init__(
        self, check_funds: CheckFunds, tariff: Tariff, kept: dict[KeyedPlace, tuple[bytes, dict[str, Any]]]
    ) -> None:
        self.holds: list[NewHold] = []
        self.answered: list[tuple[KeyedRequest, dict[str, Any]]] = []
        self._check_funds = check_funds
        self._tariff = tariff
        self._kept = kept
        # What the requests before have reserved, in micro-CHF by account.
        self._reserved: dict[int, int] = {}

    def outcome(self, asked: _Asked, found: Found, now: datetime) -> Outcome:
        """The answer to one request, or its refusal."""
        keyed = asked.keyed
        kept = None if keyed.place is None else self._kept.get(keyed.place)
        if kept is not None:
            digest, answer = kept
            return answer if digest == keyed.digest else IdempotencyMismatch()
        try:
            answer = self._reserve(asked, found, now)
        except (Problem, Contended) as refusal:
            return refusal
        self.answered.append((keyed, answer))
        if keyed.place is not None:
            self._kept[keyed.place] = keyed.digest, answer
        return answer

    def _reserve(self, asked: _Asked, read: Found, now: datetime) -> dict[str, Any]:
        request, question, row = asked.request, asked.request.question, read.row
        account_no = row["own_no" if row["billing_model"] == "PREPAY_USER" else "pool_no"]
        reserved = self._reserved.get(account_no, 0)
        if not row["known"]:
            raise MandateUnknown
        found = self._check_funds.decide(question, read, self._tariff, reserved=reserved)
        if found.decision.reason is not None:
            raise HoldRefused(found.decision.reason, found.figures(), limit=found.decision.limit)
        if account_no is None or row["own_no"] is None:
            raise Contended("no account yet")
        held = (row["own_held" if row["billing_model"] == "PREPAY_USER" else "pool_held"] or 0) + reserved
        if held + found.required > BALANCE_MAX:
            raise InvalidField(
                "estimatedCost" if question.estimate is None else "estimate",
                en="with this amount more would be held than the ledger can hold",
                de="mit diesem Betrag wäre mehr reserviert, als das Hauptbuch fassen kann",
                code="AMOUNT_TOO_LARGE",
            )
        hold = NewHold(
            mandate_no=asked.keyed.mandate_no,
            id=hold_id(asked.keyed.mandate_no, uuid4()),
            account_no=account_no,
            member_account_no=row["own_no"],
            amount=found.required,
            provider=question.provider,
            model=question.model,
            feature_instance_id=question.feature_instance_id,
            created_at=now,
            created_by=request.actor,
            expires_at=now + timedelta(seconds=request.ttl_s),
        )
        self.holds.append(hold)
        self._reserved[account_no] = reserved + hold.amount
        for use in read.limits:
            # Those that are decided after it and have the limit in common have the same object.
            use.used += hold.amount
        # Nobody's balance pays in UNLIMITED, so nothing is taken from one.
        left = 0 if found.funds.model == "UNLIMITED" else found.funds.balance - found.funds.held - hold.amount
        return {
            "holdId": str(hold.id),
            "amount": money_json(hold.amount),
            "expiresAt": utc_text(hold.expires_at),
            "balanceAfterHold": money_json(left),
        }
