"""Capturing: usage that was held for is charged as all usage is, and settles its hold, in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from asyncpg.exceptions import UniqueViolationError
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts import Event, decode_structured
from rappen_contracts.registry import USAGE_RECORDED_V1
from rappen_contracts.types import NonNegativeMoney
from services.billing.charging.charge_usage import AlreadyRecorded, Charges, PricingContext
from services.billing.charging.late_events import LATE_EVENT
from services.billing.charging.usage_events import Identity, Usage
from services.billing.checks.errors import (
    CapturedOtherwise,
    HoldExpired,
    HoldUnknown,
    HoldVoided,
    PriceUnknown,
    UsageCancelled,
    UsageConflict,
)
from services.billing.checks.together import Locked, Together
from services.billing.errors import InvalidField
from services.billing.ledger.domain import BEYOND_BALANCE_MAX, hold_mandate_no, transaction_id
from services.billing.ledger.holds import Hold, read_holds, settle_holds
from services.billing.ledger.repository import RecordedUsage, recorded_usage
from services.billing.ledger.rows import ChargeRow, charges_among
from services.billing.mandates.repository import lock_pricing_versions
from services.billing.money import money_json, plain
from services.billing.pricing import utc_text
from services.billing.pricing.rating import Parked, billable, rate_usage
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.problems import Problem

__all__ = ["CaptureHolds"]

SOURCE = "/rappen/billing"
# What usage without a provider or model is counted under.
UNKNOWN = "unknown"

Outcome = dict[str, Any] | Exception


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """What is to be captured by what: a cost, which makes an event of the hold's own, or a usage event."""

    mandate_no: int
    hold_id: UUID
    given: NonNegativeMoney | Event

    @property
    def marks(self) -> set[tuple[int, UUID]]:
        """What only one of those that are decided at once may have: the hold, and the id of the event."""
        event_id = self.given.id if isinstance(self.given, Event) else self.hold_id
        return {(self.mandate_no, self.hold_id), (self.mandate_no, event_id)}


@dataclass(slots=True, eq=False)
class _Capture:
    """A hold under the lock of its mandate, and the usage that is to settle it, with what was recorded of it before."""

    asked: _Asked
    hold: Hold
    usage: Usage
    recorded: RecordedUsage | None = None

    @property
    def identity(self) -> tuple[int, UUID]:
        """The identity of the event."""
        return self.asked.mandate_no, self.usage.id

    @property
    def may_be_recorded(self) -> bool:
        """Whether the event may have been recorded before: an event of a publisher's, or that of an earlier capture."""
        return isinstance(self.asked.given, Event) or self.hold.state != "OPEN"

    @property
    def left_open(self) -> bool:
        """Whether the charge of usage that names no hold, or was charged before, has left the hold as it was."""
        return self.hold.state == "OPEN" and (self.usage.data.hold_id is None or self.recorded is not None)

    def refusal(self, context: PricingContext, now: datetime) -> Problem | None:
        """Why the hold cannot be settled by this usage; None where it can, or was."""
        (event, data, tokens), recorded = self.usage.published(), self.recorded
        state = self.hold.state_at(now)
        if state == "CAPTURED" and (self.hold.settled_by != event.id or recorded is None):
            return CapturedOtherwise()
        if state in ("VOIDED", "EXPIRED"):
            return HoldVoided() if state == "VOIDED" else HoldExpired()
        if recorded is not None:
            if recorded.digest != event.digest:
                return CapturedOtherwise() if state == "CAPTURED" else UsageConflict()
            return _waiting(recorded)
        terms = context.terms[self.asked.mandate_no]
        rated = rate_usage(billable(data, tokens), event.time, context.tariff, terms.markup)
        return PriceUnknown(rated.reason, rated.detail) if isinstance(rated, Parked) else None


class CaptureHolds:
    """Captures holds. Those that wait together are charged as one batch of usage."""

    def __init__(
        self, database: Database, together: Together, *, default_markup: Decimal, clock: Clock, faults: FaultPoints
    ) -> None:
        self._database = database
        self._together = together
        self._default_markup = default_markup
        self._charges = Charges(default_markup)
        self._clock = clock
        self._faults = faults

    async def __call__(self, hold_id: UUID, given: NonNegativeMoney | Event) -> dict[str, Any]:
        """Charges what the provider charged, before markup, as usage whose event has the id of the hold; or a usage
        event, which need not name the hold. The hold is settled by it.

        Answers the charge; a repeat is answered as the first, also where the event came another way. 404 for a hold
        that is not there or of another mandate than the event, 409 for one that is expired, voided or settled by other
        usage, and for an event that was recorded with other data, 422 for what is later than the mandate takes, and for
        what cannot be priced, which may then be published to wait for its price.
        """
        mandate_no = hold_mandate_no(hold_id)
        if mandate_no is None:
            raise HoldUnknown
        return await self._together(self._capture, _Asked(mandate_no, hold_id, given), mandate_no)

    async def _capture(self, asked: Sequence[_Asked], wait: bool) -> list[Outcome]:
        """Captures some at once. Of two that have a hold or an event in common the second is decided after the
        first."""
        outcomes: dict[_Asked, Outcome] = {}
        left = list(asked)
        while left:
            first: list[_Asked] = []
            later: list[_Asked] = []
            taken: set[tuple[int, UUID]] = set()
            for each in left:
                (later if each.marks & taken else first).append(each)
                taken |= each.marks
            outcomes |= await self._capture_distinct(first, wait=wait)
            left = later
        return [outcomes[each] for each in asked]

    async def _capture_distinct(self, asked: Sequence[_Asked], *, wait: bool) -> dict[_Asked, Outcome]:
        try:
            return await self._in_transaction(asked, wait=wait, look_all_up=False)
        except (AlreadyRecorded, UniqueViolationError):
            # A publisher has given an event the id of one of the holds.
            return await self._in_transaction(asked, wait=wait, look_all_up=True)

    async def _in_transaction(self, asked: Sequence[_Asked], *, wait: bool, look_all_up: bool) -> dict[_Asked, Outcome]:
        self._faults.reach("capture_before_transaction")
        charges = self._charges
        try:
            async with self._database.transaction() as connection:
                locked = await lock_pricing_versions(connection, {each.mandate_no for each in asked}, wait=wait)
                mine = [each for each in asked if each.mandate_no in locked]
                # A mandate that is not there even after waiting has no holds.
                absent = HoldUnknown if wait else Locked
                outcomes: dict[_Asked, Outcome] = {each: absent() for each in asked if each.mandate_no not in locked}
                if mine:
                    outcomes |= await self._settle(connection, charges, mine, look_all_up=look_all_up)
                self._faults.reach("capture_before_commit")
        except BaseException:
            # Charge keys that were made in it are not there.
            self._charges = Charges(self._default_markup)
            raise
        self._faults.reach("capture_after_commit")
        return outcomes

    async def _settle(
        self, connection: AsyncConnection, charges: Charges, asked: Sequence[_Asked], *, look_all_up: bool
    ) -> dict[_Asked, Outcome]:
        """Decides about each under the locks of their mandates, charges what was not charged yet, settles the holds.

        What was recorded before is looked up where there may be something: not for a cost that an open hold is captured
        by, whose event has the id of the hold. Where that one is taken all the same, the charge raises, and
        `look_all_up` finds it.
        """
        # After the locks, which may have been waited for.
        now = self._clock()
        holds = await read_holds(connection, [(each.mandate_no, each.hold_id) for each in asked])
        outcomes: dict[_Asked, Outcome] = {}
        captures: list[_Capture] = []
        for each in asked:
            try:
                captures.append(_read(each, holds.get(each.hold_id), now))
            except Problem as refusal:
                outcomes[each] = refusal
        if not captures:
            return outcomes
        usages = [each.usage for each in captures]
        await charges.assign_charge_keys(connection, usages, now)
        context = await charges.pricing_context(connection, usages)
        known = [each.identity for each in captures if look_all_up or each.may_be_recorded]
        recorded = await recorded_usage(connection, known) if known else {}
        settling: list[_Capture] = []
        for capture in captures:
            capture.recorded = recorded.get(capture.identity)
            refused = capture.refusal(context, now)
            if refused is None:
                settling.append(capture)
            else:
                outcomes[capture.asked] = refused
        fresh = [each for each in settling if each.recorded is None]
        if fresh:
            charged = await charges.charge(connection, [each.usage for each in fresh], context, now, locked=True)
            too_large = {usage.identity for usage in charged.too_large}
            outcomes |= {each.asked: _too_large(each.asked) for each in fresh if each.usage.identity in too_large}
            late = {usage.identity for usage in charged.late}
            outcomes |= {each.asked: _too_late() for each in fresh if each.usage.identity in late}
            recorded |= _recorded(fresh, charges_among(charged.rows), context)
            free = [each.identity for each in fresh if each.asked not in outcomes and each.identity not in recorded]
            recorded |= await recorded_usage(connection, free) if free else {}
        settled = [each for each in settling if each.asked not in outcomes]
        # The others were settled by the charge of their usage, which names them.
        left_open = [(*each.identity, each.hold.id) for each in settled if each.left_open]
        await settle_holds(connection, [(no, hold, event) for no, event, hold in left_open], now=now)
        return outcomes | {each.asked: _answer(each.hold.id, recorded[each.identity]) for each in settled}


def _recorded(
    captures: Sequence[_Capture], rows: Mapping[Identity, ChargeRow], context: PricingContext
) -> dict[tuple[int, UUID], RecordedUsage]:
    """What was recorded of usage by the rows that were just written."""
    recorded = {}
    for capture in captures:
        row = rows.get(capture.usage.identity)
        if row is not None:
            nobodys = context.terms[capture.asked.mandate_no].billing_model == "UNLIMITED"
            balance = None if nobodys else row.balance_after
            recorded[capture.identity] = RecordedUsage(
                *capture.identity, capture.usage.digest, None, None, row.amount, balance, row.posted_account_no, row.seq
            )
    return recorded


def _read(asked: _Asked, hold: Hold | None, now: datetime) -> _Capture:
    """The hold with its usage; raises what speaks against the one settling the other at all."""
    if hold is None:
        raise HoldUnknown
    given = asked.given
    usage = Usage.of(given if isinstance(given, Event) else _usage_of(hold, given, now))
    if usage.data.mandate_id != hold.mandate_id:
        raise HoldUnknown
    if usage.data.hold_id not in (None, hold.id):
        raise InvalidField(
            "event.data.hold_id", en="another hold than this is named", de="eine andere Reservierung ist genannt"
        )
    return _Capture(asked, hold, usage)


def _usage_of(hold: Hold, cost: NonNegativeMoney, now: datetime) -> Event:
    """The event of a capture by cost; the same hold and cost make the same event, whenever it is asked for."""
    data = {
        "mandate_id": hold.mandate_id,
        "user_id": hold.user_id,
        "provider": hold.provider or UNKNOWN,
        "model": hold.model or UNKNOWN,
        "cost": {"amount": plain(cost.amount), "currency": cost.currency},
        "feature_instance_id": hold.feature_instance_id,
        "hold_id": str(hold.id),
    }
    attributes = {"specversion": "1.0", "id": str(hold.id), "source": SOURCE, "type": USAGE_RECORDED_V1.type}
    return decode_structured({**attributes, "time": utc_text(now), "data": data}, now=now)


def _waiting(recorded: RecordedUsage) -> Problem | None:
    """Why usage that was recorded was not charged yet; None where it was, or is free."""
    if recorded.reason in (None, "FREE"):
        return None
    if recorded.reason in PriceUnknown.REASONS:
        return PriceUnknown(recorded.reason, recorded.detail or "")
    return UsageCancelled() if recorded.reason == "CANCELLED" else UsageConflict()


def _too_large(asked: _Asked) -> Problem:
    return InvalidField(
        "event" if isinstance(asked.given, Event) else "cost",
        en=BEYOND_BALANCE_MAX,
        de="mit diesem Betrag läge das Guthaben ausserhalb des Bereichs des Hauptbuchs",
        code="AMOUNT_TOO_LARGE",
    )


def _too_late() -> Problem:
    return InvalidField(
        "event.time",
        en="this mandate takes no usage that is so old",
        de="dieser Mandant nimmt keine so alte Nutzung an",
        code=LATE_EVENT,
    )


def _answer(hold: UUID, recorded: RecordedUsage) -> dict[str, Any]:
    """The answer to a capture; the same whenever it is asked for, because a charge never changes."""
    transaction, balance = None, None
    if recorded.account_no is not None and recorded.seq is not None:
        transaction = str(transaction_id(recorded.account_no, recorded.seq))
    if recorded.balance_after is not None:
        balance = money_json(recorded.balance_after)
    return {
        "holdId": str(hold),
        "eventId": str(recorded.event_id),
        "transactionId": transaction,
        "amount": money_json(recorded.amount),
        "balanceAfter": balance,
    }
