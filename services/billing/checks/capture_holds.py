"""Capturing: usage that was held for is charged as all usage is, and settles its hold, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts import Event, decode_structured
from rappen_contracts.registry import USAGE_RECORDED_V1
from rappen_contracts.types import NonNegativeMoney
from services.billing.charging.charge_usage import Charges, PricingContext
from services.billing.charging.usage_events import Usage
from services.billing.checks.errors import (
    CapturedOtherwise,
    HoldExpired,
    HoldUnknown,
    HoldVoided,
    PriceUnknown,
    UsageConflict,
)
from services.billing.checks.recorded_usage import RecordedUsage, read_recorded
from services.billing.checks.together import Locked, Together
from services.billing.errors import InvalidField
from services.billing.ledger.domain import BEYOND_BALANCE_MAX, hold_mandate_no
from services.billing.ledger.holds import Hold, read_holds, settle_holds
from services.billing.mandates.repository import lock_mandates
from services.billing.money import plain
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


@dataclass(slots=True)
class _Capture:
    """A hold and the usage that is to settle it. `by_cost`: the usage is made of the hold and a cost."""

    hold: Hold
    usage: Usage
    by_cost: bool
    # Whether the usage was recorded before.
    known: bool = False

    @property
    def identity(self) -> tuple[int, UUID]:
        """The mandate's number, which was in the hold's id, and the id of the event."""
        return self.hold.mandate_no, self.usage.event.id

    @property
    def settlement(self) -> tuple[int, UUID, UUID]:
        """The mandate, the hold and the event that settles it."""
        return self.hold.mandate_no, self.hold.id, self.usage.event.id

    @property
    def left_open(self) -> bool:
        """Whether the charge of usage that names no hold, or was charged before, has left the hold as it was."""
        return self.hold.state == "OPEN" and (self.usage.data.hold_id is None or self.known)

    def refusal(self, recorded: RecordedUsage | None, context: PricingContext, now: datetime) -> Problem | None:
        """Why the hold cannot be settled by this usage; None where it can, or was. `recorded` is that usage, where it
        was recorded already."""
        self.known = recorded is not None
        state, event = self.hold.state_at(now), self.usage.event
        if state == "CAPTURED" and (self.hold.settled_by != event.id or recorded is None):
            return CapturedOtherwise()
        if state in ("VOIDED", "EXPIRED"):
            return HoldVoided() if state == "VOIDED" else HoldExpired()
        if recorded is not None:
            if recorded.digest != event.digest:
                return CapturedOtherwise() if state == "CAPTURED" else UsageConflict()
            return recorded.waiting
        terms = context.terms[self.hold.mandate_no]
        rated = rate_usage(billable(self.usage.data, self.usage.tokens), event.time, context.tariff, terms.markup)
        return PriceUnknown(rated.reason, rated.detail) if isinstance(rated, Parked) else None


class CaptureHolds:
    """Captures holds. Those that wait together are charged as one batch of usage."""

    def __init__(self, database: Database, *, default_markup: Decimal, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._charges = Charges(default_markup)
        self._clock = clock
        self._faults = faults
        self._together: Together[_Capture, dict[str, Any]] = Together(self._capture)

    async def by_cost(self, hold_id: UUID, cost: NonNegativeMoney) -> dict[str, Any]:
        """Charges what the provider charged, before markup, as usage whose event has the id of the hold."""
        hold = await self._find(hold_id)
        return await self._together(_Capture(hold, Usage(_usage_of(hold, cost, self._clock())), True), hold.mandate_no)

    async def by_event(self, hold_id: UUID, event: Event) -> dict[str, Any]:
        """Charges a usage event, which need not name the hold, and settles the hold by it.

        Both answer the charge; a repeat is answered as the first, also where the event came another way. 404 for a hold
        that is not there or of another mandate than the event, 409 for one that is expired, voided or settled by other
        usage, and for an event that was recorded with other data, 422 for what cannot be priced, which may then be
        published to wait for its price.
        """
        hold = await self._find(hold_id)
        usage = Usage(event)
        if usage.data.mandate_id != hold.mandate_id:
            raise HoldUnknown
        if usage.data.hold_id not in (None, hold_id):
            raise InvalidField(
                "event.data.hold_id", en="another hold than this is named", de="eine andere Reservierung ist genannt"
            )
        return await self._together(_Capture(hold, usage, False), hold.mandate_no)

    async def _find(self, hold_id: UUID) -> Hold:
        mandate_no = hold_mandate_no(hold_id)
        if mandate_no is None:
            raise HoldUnknown
        async with self._database.reading() as connection:
            found = await read_holds(connection, [(mandate_no, hold_id)])
        if hold_id not in found:
            raise HoldUnknown
        return found[hold_id]

    async def _capture(self, asked: Sequence[_Capture], wait: bool) -> list[Outcome]:
        """Captures some at once. Of two that name one hold or one event the second is decided after the first."""
        outcomes: dict[int, Outcome] = {}
        left = list(asked)
        while left:
            first: list[_Capture] = []
            later: list[_Capture] = []
            taken = set[object]()
            for each in left:
                marks = {each.hold.id, each.identity}
                (later if marks & taken else first).append(each)
                taken |= marks
            outcomes |= await self._capture_distinct(first, wait=wait)
            left = later
        return [outcomes[id(each)] for each in asked]

    async def _capture_distinct(self, asked: Sequence[_Capture], *, wait: bool) -> dict[int, Outcome]:
        self._faults.reach("capture_before_transaction")
        async with self._database.reading() as connection:
            await self._charges.assign_charge_keys(connection, [each.usage for each in asked], self._clock())
        async with self._database.transaction() as connection:
            locked = await lock_mandates(connection, {each.hold.mandate_no for each in asked}, wait=wait)
            mine = [each for each in asked if each.hold.mandate_no in locked]
            outcomes: dict[int, Outcome] = {id(each): Locked() for each in asked}
            if mine:
                outcomes |= await self._settle(connection, mine)
            self._faults.reach("capture_before_commit")
        self._faults.reach("capture_after_commit")
        return outcomes

    async def _settle(self, connection: AsyncConnection, captures: Sequence[_Capture]) -> dict[int, Outcome]:
        """Decides about each under the locks of their mandates, charges what was not charged yet, settles the holds."""
        # After the locks, which may have been waited for.
        now = self._clock()
        holds = await read_holds(connection, [(each.hold.mandate_no, each.hold.id) for each in captures])
        recorded = await read_recorded(connection, [each.identity for each in captures])
        context = await self._charges.pricing_context(connection, [each.usage for each in captures])
        outcomes: dict[int, Outcome] = {}
        settling: list[_Capture] = []
        for each in captures:
            each.hold = holds[each.hold.id]
            refusal = each.refusal(recorded.get(each.identity), context, now)
            if refusal is None:
                settling.append(each)
            else:
                outcomes[id(each)] = refusal
        fresh = [each for each in settling if each.identity not in recorded]
        if fresh:
            charged = await self._charges.charge(connection, [each.usage for each in fresh], context, now)
            too_large = {usage.identity for usage in charged.too_large}
            outcomes |= {id(each): _too_large(each) for each in fresh if each.identity in too_large}
            recorded |= await read_recorded(connection, [each.identity for each in fresh])
        settled = [each for each in settling if id(each) not in outcomes]
        # Those that their usage names are settled by the charge already, and by this not again.
        await settle_holds(connection, [each.settlement for each in settled if each.left_open], now=now)
        return outcomes | {
            id(each): recorded[each.identity].json(each.hold.id, each.usage.event.id) for each in settled
        }


def _too_large(capture: _Capture) -> Problem:
    return InvalidField(
        "cost" if capture.by_cost else "event",
        en=BEYOND_BALANCE_MAX,
        de="mit diesem Betrag läge das Guthaben ausserhalb des Bereichs des Hauptbuchs",
        code="AMOUNT_TOO_LARGE",
    )


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
