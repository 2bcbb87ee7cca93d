"""Charging usage: a batch of events becomes ledger rows, balances, rollups and facts, in one transaction.

Read `ChargeUsage.__call__` and then `Charges.charge` from top to bottom: that is the whole charge. It is exactly once
in effect because the identity of an event (its id within its mandate) is the key of its ledger row, or of its row
among the uncharged events, and because everything a charge does stands or falls with that one transaction.
"""

import asyncio
from collections.abc import Container, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from asyncpg.exceptions import UniqueViolationError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.charging.usage_events import Usage, compare, contradicting, distinct, refused_usage
from services.billing.ledger.domain import BEYOND_BALANCE_MAX, Posting
from services.billing.ledger.errors import RowsRefused
from services.billing.ledger.keys import PlaceName, Places, ensure_mandates, make_places
from services.billing.ledger.repository import faulty_rows, recorded_digests
from services.billing.ledger.write_postings import prepare_postings, write_prepared
from services.billing.mandates.domain import Terms
from services.billing.mandates.open_accounts import give_opening_credit
from services.billing.mandates.repository import lock_mandates, lock_pricing_versions, mark_uncharged, read_terms
from services.billing.pricing.rating import Parked, Tariff, billable, rate_usage
from services.billing.pricing.repository import Tariffs
from services.billing.pricing.uncharged import UnchargedEvent, insert_uncharged
from services.chassis.clock import Clock
from services.chassis.consumer import Faulty, Received
from services.chassis.database import Contended, Database, begin, driver_connection
from services.chassis.faults import FaultPoints
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine

__all__ = ["AlreadyRecorded", "ChargeUsage", "Charges", "Outcome", "TermsChanged"]

GROUP = "billing"
TOPIC = "usage.recorded"
# So often a batch may begin again at once. Each time it knows more of what is recorded already, so a few are enough.
TRIES_MAX = 20


class AlreadyRecorded(Exception):  # noqa: N818 - a signal to begin again, not an error.
    """Some of the events are claimed already: charged, free or parked."""

    def __init__(self, digests: dict[tuple[int, UUID], bytes]) -> None:
        super().__init__(len(digests))
        self.digests = digests


class TermsChanged(Exception):  # noqa: N818 - a signal to begin again, not an error.
    """What the events are priced by changed between pricing and locking."""


class Outcome(NamedTuple):
    """What became of the events that nobody had claimed: how many of each, and those that no account can pay."""

    charged: int
    free: int
    parked: int
    too_large: list[Usage]


class ChargeUsage:
    """The handler of usage.recorded. One worker runs one at a time."""

    def __init__(self, database: Database, *, default_markup: Decimal, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._clock = clock
        self._faults = faults
        self._charges = Charges(default_markup)

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch: every event is charged, free, parked, a repeat, or refused; nothing else can happen. Raises
        `Contended`, which is transient, where others came before it too often."""
        now = self._clock()
        usages = [Usage(received.event, received) for received in events]
        async with self._database.reading() as connection:
            await self._charges.find_places(connection, usages, now)
            usages, repeats, others = distinct(usages)
            known: dict[tuple[int, UUID], bytes] = {}
            for _ in range(TRIES_MAX):
                fresh, again, other = compare(usages, known)
                try:
                    async with begin(connection):
                        basis = await self._charges.basis(connection, usages)
                        outcome = await self._charges.charge(connection, fresh, basis, now)
                        conflicts = contradicting(others, known)
                        too_large = [
                            refused_usage(usage, "AMOUNT_TOO_LARGE", BEYOND_BALANCE_MAX) for usage in outcome.too_large
                        ]
                        rejected = [*refused, *conflicts, *other, *too_large]
                        await quarantine(connection, rejected, group=GROUP, now=now)
                        self._faults.reach("before_commit")
                except UniqueViolationError as error:
                    # Somebody recorded some of these events already. Look which, then write the rest.
                    found = await recorded_digests(connection, "transactions", [u.identity for u in usages])
                    if error.table_name == "transactions" and found.keys() <= known.keys():
                        raise
                    known |= found
                except AlreadyRecorded as found_recorded:
                    known |= found_recorded.digests
                except TermsChanged:
                    await asyncio.sleep(0)
                except RowsRefused as error:
                    why = await faulty_rows(connection, error.rows)
                    _blame([(usage, why[usage.identity]) for usage in _those(usages, why)])
                    raise
                else:
                    break
            else:
                raise Contended(f"{len(usages)} events after {TRIES_MAX} tries")
        counts = {
            "charged": outcome.charged,
            "free": outcome.free,
            "parked": outcome.parked,
            "repeated": repeats + len(again) + len(others) - len(conflicts),
            "refused": len(rejected),
        }
        for name, count in counts.items():
            if count:
                EVENTS_CONSUMED.labels(TOPIC, name).inc(count)
        return rejected


class Basis(NamedTuple):
    """What a batch is priced by: the terms of its mandates and the tariff."""

    terms: dict[int, Terms]
    tariff: Tariff

    def to_look_up(self, postings: Iterable[Posting]) -> list[tuple[int, UUID]]:
        """The events that may have been claimed without a charge, because others of their mandate were."""
        claiming = {no for no, terms in self.terms.items() if terms.has_uncharged}
        return [posting.identity for posting in postings if posting.mandate_no in claiming] if claiming else []


class Charges:
    """The charge itself, with the places and prices that a worker has seen."""

    def __init__(self, default_markup: Decimal) -> None:
        self._default_markup = default_markup
        self._places = Places()
        self._tariffs = Tariffs()

    async def find_places(self, connection: AsyncConnection, usages: Sequence[Usage], now: datetime) -> None:
        """Gives each event its place; what is new is committed by itself, before the charge that needs it."""
        unknown: dict[PlaceName, None] = {}
        for usage in usages:
            place = self._places.get(usage.name)
            if place is None:
                unknown[PlaceName(*usage.name)] = None
            else:
                usage.place = place
        if unknown:
            async with begin(connection):
                numbers = await ensure_mandates(connection, [name.mandate_id for name in unknown])
                mandates = await lock_mandates(connection, numbers.values())
                made = await make_places(connection, list(unknown), numbers)
                await give_opening_credit(connection, mandates, now=now)
            self._places.remember(made.items())
            for usage in usages:
                if usage.name in made:
                    usage.place = made[PlaceName(*usage.name)]

    async def basis(self, connection: AsyncConnection, usages: Iterable[Usage]) -> Basis:
        """Reads what the events are priced by."""
        numbers = {usage.place.mandate_no for usage in usages}
        terms, revision = await read_terms(connection, numbers, default_markup=self._default_markup)
        return Basis(terms, await self._tariffs.at(driver_connection(connection), revision))

    async def charge(
        self, connection: AsyncConnection, usages: Sequence[Usage], basis: Basis, now: datetime
    ) -> Outcome:
        """Charges events, in the caller's transaction; raises when one of them is claimed, or the terms have changed.

        The mandates are locked, and with them their accounts; rows, balances and rollups are written, and the balances
        are marked to be told. The number of statements does not depend on the number of events.
        """
        postings, uncharged = _price(usages, basis, now)
        await _lock(connection, basis)
        await _look_up(connection, basis.to_look_up(postings), uncharged)
        too_large = await _write(connection, usages, postings, basis, now)
        await insert_uncharged(driver_connection(connection), uncharged)
        unmarked = {entry.mandate_no for entry in uncharged if not basis.terms[entry.mandate_no].has_uncharged}
        if unmarked:
            await mark_uncharged(connection, unmarked)
        free = sum(1 for event in uncharged if event.reason == "FREE")
        return Outcome(len(postings) - len(too_large), free, len(uncharged) - free, too_large)


async def _lock(connection: AsyncConnection, basis: Basis) -> None:
    """Locks the mandates, whose terms must be those that the events were priced by."""
    if basis.terms:
        versions = await lock_pricing_versions(connection, basis.terms)
        if any(versions[no] != terms.pricing_version for no, terms in basis.terms.items()):
            raise TermsChanged


async def _look_up(
    connection: AsyncConnection, priced: Sequence[tuple[int, UUID]], uncharged: Sequence[UnchargedEvent]
) -> None:
    """Raises for events that are claimed in the other table than the one whose key would tell: what is charged now but
    was free or parked, and the reverse. Under the mandates' locks, so nobody claims one of them meanwhile."""
    claimed = await recorded_digests(connection, "uncharged_events", priced)
    identities = [(entry.mandate_no, entry.event_id) for entry in uncharged]
    claimed |= await recorded_digests(connection, "transactions", identities)
    claimed |= await recorded_digests(connection, "uncharged_events", identities)
    if claimed:
        raise AlreadyRecorded(claimed)


async def _write(
    connection: AsyncConnection, usages: Sequence[Usage], postings: Sequence[Posting], basis: Basis, now: datetime
) -> list[Usage]:
    """Writes the charges, and gives the usage whose amount would take its account out of the ledger's range."""
    calendars = {no: terms.calendar for no, terms in basis.terms.items()}
    prepared = await prepare_postings(connection, postings, calendars=calendars, now=now)
    if prepared.faulty:
        why = {posting.identity: type(error).__name__ for posting, error in prepared.faulty}
        _blame([(usage, why[usage.identity]) for usage in _those(usages, why)])
    await write_prepared(connection, prepared)
    return _those(usages, {posting.identity for posting in prepared.out_of_range})


def _those(usages: Iterable[Usage], identities: Container[tuple[int, UUID]]) -> list[Usage]:
    return [usage for usage in usages if usage.identity in identities]


def _price(usages: Iterable[Usage], basis: Basis, now: datetime) -> tuple[list[Posting], list[UnchargedEvent]]:
    """Splits usage into what is charged, to the account that pays, and what is claimed without a charge: free, or
    parked until it has a price."""
    terms, tariff = basis
    postings: list[Posting] = []
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
            postings.append(usage.posting(rated, place.charged_no(term.billing_model)))
    _blame(faults)
    return postings, uncharged


def _blame(faults: Sequence[tuple[Usage, str]]) -> None:
    """Raises the events at fault, all of them at once; stored ones are not named, whoever took them isolates them."""
    received = [(usage.received, why) for usage, why in faults if usage.received is not None]
    if received:
        raise Faulty(received)
    if faults:
        raise ValueError(faults[0][1])
