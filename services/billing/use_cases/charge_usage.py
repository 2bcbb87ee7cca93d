"""Charging usage: a batch of events becomes ledger rows, balances, rollups and facts, in one transaction.

Read `ChargeUsage.__call__` and then `Charges.charge` from top to bottom: that is the whole charge. It is exactly once
in effect because the identity of an event (its id within its mandate) is the key of its ledger row, or of its row
among the uncharged events, and because everything a charge does stands or falls with that one transaction.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
import orjson
from asyncpg.exceptions import UniqueViolationError

from rappen_contracts import Event
from rappen_contracts.usage.v1 import UsageRecorded
from services.billing.domain.charging import (
    Parked,
    RatedUsage,
    Tariff,
    billable,
    derivation,
    rate_usage,
)
from services.billing.domain.ledger import LockedAccount
from services.billing.domain.money import post
from services.billing.domain.prices import PROMPT_KINDS
from services.billing.domain.terms import Terms
from services.billing.repository.keys import Place, PlaceName, Places, make_places
from services.billing.repository.ledger import (
    RollupKey,
    add_to_rollups,
    lock_accounts,
    recorded_digests,
    update_accounts,
)
from services.billing.repository.mandates import changed_terms, read_terms
from services.billing.repository.prices import Tariffs
from services.billing.repository.uncharged import UnchargedEvent, insert_uncharged
from services.billing.repository.usage_rows import RowsRefused, faulty_rows, insert_usage_rows, since_epoch, usage_row
from services.billing.use_cases.open_accounts import give_opening_credit
from services.chassis.clock import Clock
from services.chassis.consumer import Faulty, Received
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine

__all__ = ["AlreadyCharged", "ChargeUsage", "Charges", "TermsChanged", "Usage"]

GROUP = "billing"
TOPIC = "usage.recorded"


class Usage:
    """A usage event on its way through the charge: what was done, and where in the ledger it belongs."""

    __slots__ = ("data", "event", "name", "place", "received", "tokens")

    place: Place

    def __init__(self, event: Event, received: Received | None = None) -> None:
        data = event.data
        if not isinstance(data, UsageRecorded):
            raise TypeError(f"{type(data).__name__} is not usage")
        self.event = event
        self.data = data
        self.received = received
        self.tokens = data.tokens.counts() if data.tokens is not None else {}
        # Everything in the event that decides on its place; in the order of `PlaceName`.
        self.name = (
            data.mandate_id,
            data.user_id,
            data.provider,
            data.model,
            data.feature_code,
            data.feature_instance_id,
        )

    @property
    def identity(self) -> tuple[int, UUID]:
        """What makes two deliveries the same event: the mandate and the event's id."""
        return self.place.mandate_no, self.event.id


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
                        basis = await self._charges.basis(connection, usages)
                        claimed = await recorded_digests(connection, "uncharged_events", basis.to_look_up(fresh))
                        fresh, again_uncharged, other_uncharged = _compare(fresh, claimed)
                        outcome = await self._charges.charge(connection, fresh, basis, now)
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
                except RowsRefused as error:
                    why = await faulty_rows(connection, error.rows)
                    _blame([(usage, why[usage.identity]) for usage in usages if usage.identity in why])
                    raise
                else:
                    break
        outcome["repeated"] = repeats + len(again) + len(again_uncharged) + len(others) - len(conflicts)
        outcome["refused"] = len(rejected)
        for name, count in outcome.items():
            if count:
                EVENTS_CONSUMED.labels(TOPIC, name).inc(count)


class Basis(NamedTuple):
    """What a batch is priced by: the terms of its mandates and the tariff."""

    terms: dict[int, Terms]
    tariff: Tariff

    def to_look_up(self, usages: Iterable[Usage]) -> list[tuple[int, UUID]]:
        """The events that may have been claimed without a charge, because others of their mandate were."""
        claiming = {no for no, terms in self.terms.items() if terms.has_uncharged}
        return [usage.identity for usage in usages if usage.place.mandate_no in claiming] if claiming else []


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
                unknown[PlaceName(*usage.name)] = None
            else:
                usage.place = place
        if unknown:
            async with connection.transaction():
                made = await make_places(connection, list(unknown))
                await give_opening_credit(connection, {place.mandate_no for place in made.values()}, now=now)
            self._places.remember(made.items())
            for usage in usages:
                if usage.name in made:
                    usage.place = made[PlaceName(*usage.name)]

    async def basis(self, connection: asyncpg.Connection, usages: Iterable[Usage]) -> Basis:
        """Reads what the events are priced by."""
        numbers = {usage.place.mandate_no for usage in usages}
        terms, revision = await read_terms(connection, numbers, default_markup=self._default_markup)
        return Basis(terms, await self._tariffs.at(connection, revision))

    async def charge(
        self, connection: asyncpg.Connection, usages: Sequence[Usage], basis: Basis, now: datetime
    ) -> dict[str, int]:
        """Charges events that nobody has claimed yet, in the caller's transaction; counts them by outcome.

        Accounts are locked, then rows, balances and rollups are written, and the balances are marked to be told. The
        number of statements does not depend on the number of events.
        """
        priced, uncharged = _price(usages, basis, now)
        if uncharged:
            # Their claim is in another table than the ledger, so no key of it would tell.
            identities = [(entry.mandate_no, entry.event_id) for entry in uncharged]
            charged = await recorded_digests(connection, "transactions", identities)
            if charged:
                raise AlreadyCharged(charged)
        if priced:
            accounts = await lock_accounts(connection, {(usage.place.mandate_no, no) for usage, _, no in priced})
            if await changed_terms(connection, list(basis.terms.values())):
                raise TermsChanged
            rows, sums = _post(priced, accounts, basis.terms, now)
            await insert_usage_rows(connection, rows)
            await update_accounts(connection, list(accounts.values()))
            await add_to_rollups(connection, sums)
        await insert_uncharged(connection, uncharged)
        free = sum(1 for event in uncharged if event.reason == "FREE")
        return {"charged": len(priced), "free": free, "parked": len(uncharged) - free}


def _price(
    usages: Iterable[Usage], basis: Basis, now: datetime
) -> tuple[list[tuple[Usage, RatedUsage, int]], list[UnchargedEvent]]:
    """Splits usage into what is charged, with the account that pays, and what is claimed without a charge: free, or
    parked until it has a price."""
    terms, tariff = basis
    priced: list[tuple[Usage, RatedUsage, int]] = []
    uncharged: list[UnchargedEvent] = []
    faults: list[tuple[Usage, str]] = []
    for usage in usages:
        place, event = usage.place, usage.event
        term = terms[place.mandate_no]
        try:
            rated = rate_usage(billable(usage.data, usage.tokens), event.time, tariff, term.markup)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the fault of this event, and is told with it.
            faults.append((usage, type(error).__name__))
            continue
        if isinstance(rated, Parked):
            uncharged.append(UnchargedEvent.parked(place.mandate_no, event, rated, now, tariff.revision))
        elif not rated.exact:
            uncharged.append(UnchargedEvent.free(place.mandate_no, event, now, tariff.revision))
        else:
            priced.append((usage, rated, place.charged_no(term.billing_model)))
    _blame(faults)
    return priced, uncharged


def _post(
    priced: Iterable[tuple[Usage, RatedUsage, int]],
    accounts: Mapping[int, LockedAccount],
    terms: Mapping[int, Terms],
    now: datetime,
) -> tuple[list[bytes], dict[RollupKey, list[int]]]:
    """Moves the locked accounts, one event after the other: each amount is rounded once with its account's carry, and
    how it came about is written down. Returns the rows in the order of their key, so that two workers with the same
    events wait for each other, not for ever; and the cost and count to add to the rollups."""
    recorded_at = since_epoch(now)
    rows: list[bytes] = []
    sums: dict[RollupKey, list[int]] = {}
    faults: list[tuple[Usage, str]] = []
    for usage, rated, account_no in priced:
        event, data, place, tokens = usage.event, usage.data, usage.place, usage.tokens
        account = accounts[account_no]
        balance_before, seq_before, carry_before = account.balance, account.seq, account.carry
        try:
            amount, account.carry = post(rated.exact, carry_before)
            account.move(-amount)
            day = terms[place.mandate_no].calendar.day(event.time)
            explained = derivation(data, rated, carry_before, account.carry, tokens)
            row = usage_row(
                event,
                data,
                place,
                account,
                amount=amount,
                recorded_at=recorded_at,
                period_day=day,
                tokens=_sent_and_received(tokens),
                derivation=orjson.dumps(explained),
            )
        except Exception as error:  # noqa: BLE001 - as in pricing; the next of this account must not suffer for it.
            account.balance, account.seq, account.carry = balance_before, seq_before, carry_before
            faults.append((usage, type(error).__name__))
            continue
        rows.append(row)
        added = sums.setdefault((place.mandate_no, place.member_no, day, place.dimension_no), [0, 0])
        added[0] += amount
        added[1] += 1
    _blame(faults)
    rows.sort()
    return rows, sums


def _blame(faults: Sequence[tuple[Usage, str]]) -> None:
    """Raises the events at fault, all of them at once; stored ones are not named, whoever took them isolates them."""
    received = [(usage.received, why) for usage, why in faults if usage.received is not None]
    if received:
        raise Faulty(received)
    if faults:
        raise ValueError(faults[0][1])


def _sent_and_received(tokens: Mapping[str, int]) -> tuple[int, int] | tuple[None, None]:
    if not tokens:
        return None, None
    sent = sum([count for kind, count in tokens.items() if kind in PROMPT_KINDS])
    return sent, sum(tokens.values()) - sent


def _distinct(usages: list[Usage]) -> tuple[list[Usage], int, list[Usage]]:
    """The first of each identity within the batch, the number of its repeats, and those with other data."""
    if len({usage.event.id.int for usage in usages}) == len(usages):
        return usages, 0, []
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
