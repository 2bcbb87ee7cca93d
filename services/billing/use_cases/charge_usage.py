"""Charging usage: a batch of events becomes ledger rows, balances, rollups and facts, in one transaction.

Read `ChargeUsage.__call__` and then `Charges.charge` from top to bottom: that is the whole charge. It is exactly once
in effect because the identity of an event (its id within its mandate) is the key of its ledger row, or of its row
among the uncharged events, and because everything a charge does stands or falls with that one transaction.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import asyncpg
import orjson
from asyncpg.exceptions import UniqueViolationError

from rappen_contracts import Event
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.domain.charging import (
    Estimate,
    Parked,
    RatedUsage,
    Tariff,
    Terms,
    derivation,
    period_day,
    rate_usage,
)
from services.billing.domain.ledger import LockedAccount, Transaction
from services.billing.domain.money import post
from services.billing.domain.prices import PROMPT_KINDS
from services.billing.publications import balances_changed
from services.billing.repository.keys import Place, PlaceName, Places, make_places
from services.billing.repository.ledger import (
    RollupKey,
    add_to_rollups,
    insert_transactions,
    lock_accounts,
    recorded_digests,
    update_accounts,
)
from services.billing.repository.mandates import changed_terms, read_terms
from services.billing.repository.prices import Tariffs
from services.billing.repository.uncharged import UnchargedEvent, insert_uncharged
from services.billing.use_cases.open_accounts import give_opening_credit
from services.chassis.clock import Clock
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.outbox import append_outbox
from services.chassis.quarantine import Refused, quarantine

__all__ = ["AlreadyCharged", "ChargeUsage", "Charges", "TermsChanged", "Usage"]

GROUP = "billing"
TOPIC = "usage.recorded"


class Usage:
    """A usage event on its way through the charge: what was done, and where in the ledger it belongs."""

    __slots__ = ("data", "event", "identity", "name", "place", "received", "tokens")

    place: Place
    # What makes two deliveries the same event: the mandate and the event's id.
    identity: tuple[int, UUID]

    def __init__(self, event: Event, received: Received | None = None) -> None:
        data = event.data
        if not isinstance(data, UsageRecorded):
            raise TypeError(f"{type(data).__name__} is not usage")
        self.event = event
        self.data = data
        self.received = received
        self.tokens = data.tokens.counts() if data.tokens is not None else {}
        self.name = PlaceName(
            data.mandate_id, data.user_id, data.provider, data.model, data.feature_code, data.feature_instance_id
        )

    def put(self, place: Place) -> None:
        """Gives the event its place."""
        self.place = place
        self.identity = place.mandate_no, self.event.id


class AlreadyCharged(Exception):  # noqa: N818 - a signal to begin again, not an error.
    """The ledger has some of the events that would be claimed without a charge."""

    def __init__(self, digests: dict[tuple[int, UUID], bytes]) -> None:
        super().__init__(len(digests))
        self.digests = digests


class TermsChanged(Exception):  # noqa: N818 - a signal to begin again, not an error.
    """Settings changed between pricing and locking."""


class ChargeUsage:
    """The handler of usage.recorded. One worker runs one at a time."""

    def __init__(self, database: Database, *, default_markup: Decimal, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._clock = clock
        self._faults = faults
        self._charges = Charges(default_markup)

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> None:
        """Settles a batch: every event is charged, free, parked, a repeat, or refused; nothing else can happen."""
        now = self._clock()
        usages = [Usage(received.event, received) for received in events]
        async with self._database.bare() as connection:
            await self._charges.find_places(connection, usages, now)
            usages, repeats, others = _distinct(usages)
            known: dict[tuple[int, UUID], bytes] = {}
            while True:
                fresh, again, other = _compare(usages, known)
                try:
                    async with connection.transaction():
                        claimed = await recorded_digests(connection, "uncharged_events", [u.identity for u in fresh])
                        fresh, again_uncharged, other_uncharged = _compare(fresh, claimed)
                        outcome = await self._charges.charge(connection, fresh, now)
                        conflicts = _contradicting(others, known | claimed)
                        rejected = [*refused, *conflicts, *other, *other_uncharged]
                        await quarantine(connection, rejected, group=GROUP, now=now)
                        self._faults.reach("before_commit")
                except UniqueViolationError as error:
                    # Somebody recorded some of these events already. Look which, then write the rest.
                    found = await recorded_digests(connection, "transactions", [u.identity for u in usages])
                    if error.table_name == "transactions" and found.keys() <= known.keys():
                        raise
                    known |= found
                except AlreadyCharged as found_charged:
                    known |= found_charged.digests
                except TermsChanged:
                    await asyncio.sleep(0)
                else:
                    break
        outcome["repeated"] = repeats + len(again) + len(again_uncharged) + len(others) - len(conflicts)
        outcome["refused"] = len(rejected)
        for name, count in outcome.items():
            if count:
                EVENTS_CONSUMED.labels(TOPIC, name).inc(count)


class Charges:
    """The charge itself, with the places and prices that a worker has seen."""

    def __init__(self, default_markup: Decimal) -> None:
        self._default_markup = default_markup
        self._places = Places()
        self._tariffs = Tariffs()

    async def find_places(self, connection: asyncpg.Connection, usages: Sequence[Usage], now: datetime) -> None:
        """Gives each event its place; what is new is committed by itself, before the charge that needs it."""
        unknown: dict[PlaceName, None] = {}
        for usage in usages:
            place = self._places.get(usage.name)
            if place is None:
                unknown[usage.name] = None
            else:
                usage.put(place)
        if unknown:
            async with connection.transaction():
                made = await make_places(connection, list(unknown))
                await give_opening_credit(connection, {place.mandate_no for place in made.values()}, now=now)
            self._places.remember(made.items())
            for usage in usages:
                if usage.name in made:
                    usage.put(made[usage.name])

    async def charge(self, connection: asyncpg.Connection, usages: Sequence[Usage], now: datetime) -> dict[str, int]:
        """Charges events that nobody has claimed yet, in the caller's transaction; counts them by outcome.

        Terms and prices are read, accounts are locked, then rows, balances, rollups and facts are written. The number
        of statements does not depend on the number of events.
        """
        numbers = {usage.place.mandate_no for usage in usages}
        terms, revision = await read_terms(connection, numbers, default_markup=self._default_markup)
        tariff = await self._tariffs.at(connection, revision)
        priced, uncharged = _price(usages, terms, tariff, now)
        if uncharged:
            # Their claim is in another table than the ledger, so no key of it would tell.
            identities = [(entry.mandate_no, entry.event_id) for entry in uncharged]
            charged = await recorded_digests(connection, "transactions", identities)
            if charged:
                raise AlreadyCharged(charged)
        accounts = await lock_accounts(connection, {(usage.place.mandate_no, no) for usage, _, no in priced})
        if priced and await changed_terms(connection, list(terms.values())):
            raise TermsChanged
        rows: list[Transaction] = []
        sums: dict[RollupKey, tuple[int, int]] = {}
        for usage, rated, account_no in priced:
            row = _post(usage, rated, accounts[account_no], terms[usage.place.mandate_no], now)
            rows.append(row)
            key = RollupKey(row.mandate_no, row.account_no, row.period_day, usage.place.dimension_no)
            cost, count = sums.get(key, (0, 0))
            sums[key] = cost + row.amount, count + 1
        # In the order of the key, so that two workers with the same events wait for each other, not for ever.
        rows.sort(key=lambda row: (row.mandate_no, row.event_id.int))
        await insert_transactions(connection, rows)
        await update_accounts(connection, list(accounts.values()))
        await add_to_rollups(connection, sums)
        mandate_ids = {term.mandate_no: term.mandate_id for term in terms.values()}
        await append_outbox(connection, balances_changed(accounts.values(), mandate_ids, now))
        await insert_uncharged(connection, uncharged)
        free = sum(1 for event in uncharged if event.reason == "FREE")
        return {"charged": len(rows), "free": free, "parked": len(uncharged) - free}


def _price(
    usages: Iterable[Usage], terms: dict[int, Terms], tariff: Tariff, now: datetime
) -> tuple[list[tuple[Usage, RatedUsage, int]], list[UnchargedEvent]]:
    """Splits usage into what is charged, with the account that pays, and what is claimed without a charge: free, or
    parked until it has a price."""
    priced: list[tuple[Usage, RatedUsage, int]] = []
    uncharged: list[UnchargedEvent] = []
    for usage in usages:
        place = usage.place
        term = terms[place.mandate_no]
        estimate = Estimate.of(usage.data, usage.tokens)
        rated = rate_usage(estimate, usage.event.time, tariff, term.markup_percent)
        if isinstance(rated, Parked):
            uncharged.append(UnchargedEvent.parked(place.mandate_no, usage.event, rated, now, tariff.revision))
        elif not rated.exact:
            uncharged.append(UnchargedEvent.free(place.mandate_no, usage.event, now, tariff.revision))
        else:
            priced.append((usage, rated, place.charged_no(term.billing_model)))
    return priced, uncharged


def _post(usage: Usage, rated: RatedUsage, account: LockedAccount, terms: Terms, now: datetime) -> Transaction:
    """Rounds once with the account's carry, moves the balance, and writes down how the amount came about."""
    data, event, tokens = usage.data, usage.event, usage.tokens
    carry_before = account.carry
    amount, account.carry = post(rated.exact, carry_before)
    account.move(-amount)
    sent = sum(count for kind, count in tokens.items() if kind in PROMPT_KINDS)
    return Transaction(
        mandate_no=usage.place.mandate_no,
        event_id=event.id,
        account_no=usage.place.member_no,
        moved_account_no=account.no,
        seq=account.seq,
        transaction_type="DEBIT",
        amount=amount,
        balance_after=account.balance,
        counter="REVENUE",
        reference_type="WORKFLOW" if data.kind == "ai" else "STORAGE",
        occurred_at=event.time,
        recorded_at=now,
        period_day=period_day(event.time, terms.time_zone),
        digest=event.digest,
        description=data.description,
        dimension_no=usage.place.dimension_no,
        workflow_id=data.workflow_id,
        processing_time_ms=data.processing_time_ms,
        bytes_sent=data.bytes_sent,
        bytes_received=data.bytes_received,
        error_count=data.error_count,
        input_tokens=sent if tokens else None,
        output_tokens=sum(tokens.values()) - sent if tokens else None,
        derivation=orjson.dumps(derivation(data, rated, carry_before, account.carry, tokens)).decode(),
    )


def _distinct(usages: Sequence[Usage]) -> tuple[list[Usage], int, list[Usage]]:
    """The first of each identity within the batch, the number of its repeats, and those with other data."""
    first: dict[tuple[int, UUID], Usage] = {}
    repeats, others = 0, []
    for usage in usages:
        known = first.setdefault(usage.identity, usage)
        if known is not usage:
            if known.event.digest == usage.event.digest:
                repeats += 1
            else:
                others.append(usage)
    return list(first.values()), repeats, others


def _contradicting(others: Sequence[Usage], recorded: dict[tuple[int, UUID], bytes]) -> list[Refused]:
    """Those that differ from the first of their identity; that is what is recorded, or else the first in the batch."""
    return [_conflict(usage) for usage in others if recorded.get(usage.identity) != usage.event.digest]


def _compare(
    usages: Sequence[Usage], known: dict[tuple[int, UUID], bytes]
) -> tuple[list[Usage], list[Usage], list[Refused]]:
    """Splits events into new ones, repeats of what is recorded, and contradictions to it."""
    if not known:
        return list(usages), [], []
    fresh, again, other = [], [], []
    for usage in usages:
        digest = known.get(usage.identity)
        if digest is None:
            fresh.append(usage)
        elif digest == usage.event.digest:
            again.append(usage)
        else:
            other.append(_conflict(usage))
    return fresh, again, other


def _conflict(usage: Usage) -> Refused:
    if usage.received is None:
        raise AssertionError("only received events can contradict")
    return Refused(usage.received.record, "CONFLICT", f"event {usage.event.id} was recorded with other data")
