"""Charging usage: a batch of events becomes ledger rows, balances, rollups and facts, in one transaction.

Read `ChargeUsage.__call__` and then `Charges.charge` from top to bottom: that is the whole charge. It is exactly once
in effect because the identity of an event (its id within its mandate) is the key of its ledger row, or of its row in
`unposted_events`, and because everything that a charge writes is written in that one transaction.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from asyncpg.exceptions import UniqueViolationError
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.usage.fast import UsageData
from services.billing.charging.cancellation_event import CancellationEvent, by_kind
from services.billing.charging.description_cache import DescriptionCache
from services.billing.charging.late_events import count_in_open_period, late_usage, refused_late
from services.billing.charging.metrics import FAST_FORM_ERRORS, PUBLISHED_FORM
from services.billing.charging.recent_events import RecentEvents
from services.billing.charging.settle_cancellations import (
    SettledCancellations,
    assign_mandates,
    settle_cancellations,
)
from services.billing.charging.usage_events import (
    Identity,
    Usage,
    compare,
    contradicting,
    distinct,
    refused_usage,
)
from services.billing.ledger.descriptions import keep_descriptions
from services.billing.ledger.domain import BEYOND_BALANCE_MAX, Posting
from services.billing.ledger.errors import RowsRefused
from services.billing.ledger.holds import settle_holds
from services.billing.ledger.keys import (
    ChargeKeyCache,
    ChargeKeys,
    UsageDimensions,
    ensure_charge_keys,
    ensure_mandates,
    find_charge_keys,
)
from services.billing.ledger.low_balances import note_low_balances
from services.billing.ledger.repository import claimed_digests, faulty_rows, recorded_digests
from services.billing.ledger.write_postings import PreparedPostings, prepare_postings, write_prepared
from services.billing.mandates.domain import Terms
from services.billing.mandates.open_accounts import give_opening_credit
from services.billing.mandates.repository import lock_mandates, lock_pricing_versions, mark_unposted, read_terms
from services.billing.money import Markup, exact
from services.billing.pricing.quotes import Quotes
from services.billing.pricing.rating import Parked, PriceSource, Tariff, billable, rate_usage
from services.billing.pricing.repository import Tariffs, current_revision
from services.billing.pricing.unposted import UnpostedEvent, insert_unposted
from services.billing.storage.keep_reports import keep_reports
from services.billing.storage.repository import StorageReport
from services.chassis.clock import Clock
from services.chassis.consumer import UnprocessableEvents
from services.chassis.database import Contended, Database, begin
from services.chassis.faults import FaultPoints
from services.chassis.logging import get_logger
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine

__all__ = ["AlreadyRecorded", "ChargeUsage", "Charges", "Outcome", "PricingContext", "TermsChanged", "split_by_price"]

GROUP = "billing"
TOPIC = "usage.recorded"
# How many times a batch may begin again at once. Each time it knows more of what is recorded already, so few suffice.
TRIES_MAX = 20
# How many of them may find that terms or prices have changed. The next one reads both under the locks.
CHANGES_MAX = 2

_log = get_logger(__name__)


class AlreadyRecorded(Exception):  # noqa: N818 - a signal to begin again, not an error.
    """Some of the events are claimed already: charged, free or parked."""

    def __init__(self, digests: dict[Identity, bytes]) -> None:
        super().__init__(len(digests))
        self.digests = digests


class TermsChanged(Exception):  # noqa: N818 - a signal to begin again, not an error.
    """What the events are priced by changed between pricing and locking."""


class Outcome(NamedTuple):
    """What became of the events that nobody had claimed: how many of each, those that no account can pay, those that
    their mandate does not take any more, what became of the cancellations that came with them, and the rows of the
    ledger that were written, as `rows.encoded_row` makes them."""

    charged: int
    free: int
    parked: int
    too_large: list[Usage]
    late: list[Usage]
    cancellations: SettledCancellations
    rows: Sequence[bytes]


class ChargeUsage:
    """The handler of usage.recorded. One worker runs one at a time."""

    def __init__(self, database: Database, *, default_markup: Decimal, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._clock = clock
        self._faults = faults
        self._charges = Charges(default_markup)
        self._recent = RecentEvents()

    async def __call__(
        self, events: Sequence[Usage | CancellationEvent], refused: Sequence[Refused]
    ) -> Sequence[Refused]:
        """Settles a batch: every event is charged, free, parked, a cancellation, a repeat, or refused; nothing else can
        happen. Raises `Contended`, which is transient, where others came before it too often."""
        now = self._clock()
        delivered, cancellations = by_kind(events)
        read_so = _published(delivered)
        async with self._database.reading() as connection:
            await self._charges.assign_charge_keys(connection, delivered, now)
            await assign_mandates(connection, cancellations)
            usages, repeats, others = distinct(delivered)
            known = await self._known_already(connection, usages)
            changes = 0
            for _ in range(TRIES_MAX):
                fresh, again, other = compare(usages, known)
                try:
                    async with begin(connection):
                        locked = changes >= CHANGES_MAX
                        context = await self._charges.pricing_context(connection, usages, cancellations, lock=locked)
                        outcome = await self._charges.charge(
                            connection, fresh, context, now, cancellations, locked=locked
                        )
                        conflicts = contradicting(others, known)
                        too_large = [
                            refused_usage(usage, "AMOUNT_TOO_LARGE", BEYOND_BALANCE_MAX) for usage in outcome.too_large
                        ]
                        late = [refused_late(usage, context.terms) for usage in outcome.late]
                        rejected = [*refused, *conflicts, *other, *too_large, *late, *outcome.cancellations.refused]
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
                    changes += 1
                    await asyncio.sleep(0)
                except RowsRefused as error:
                    why = await faulty_rows(connection, error.rows)
                    _blame([(usage, why[usage.identity]) for usage in _those(usages, why)])
                    raise
                else:
                    self._recent.remember(usage.event_id for usage in usages)
                    break
            else:
                raise Contended(f"{len(usages)} events after {TRIES_MAX} tries")
        counts = {
            "charged": outcome.charged,
            "free": outcome.free,
            "parked": outcome.parked,
            "cancelled": outcome.cancellations.cancelled,
            "repeated": repeats + len(again) + len(others) - len(conflicts) + outcome.cancellations.repeated,
            "refused": len(rejected),
        }
        for name, count in counts.items():
            if count:
                EVENTS_CONSUMED.labels(TOPIC, name).inc(count)
        PUBLISHED_FORM.labels("read").inc(read_so)
        PUBLISHED_FORM.labels("price").inc(_published(delivered) - read_so)
        return rejected

    async def _known_already(self, connection: AsyncConnection, usages: Sequence[Usage]) -> dict[Identity, bytes]:
        """The digests of events that are recorded, as far as this worker may know of them: they cost no try."""
        again = [usage.identity for usage in usages if usage.event_id in self._recent]
        return await recorded_digests(connection, "both", again)


class PricingContext(NamedTuple):
    """What a batch is priced by: the terms of its mandates, the tariff and its quotes."""

    terms: dict[int, Terms]
    tariff: Tariff
    quotes: Quotes

    def to_look_up(self, postings: Iterable[Posting]) -> list[Identity]:
        """The events that may have been claimed without a posting, because others of their mandate were."""
        claiming = {no for no, terms in self.terms.items() if terms.has_unposted}
        return [posting.identity for posting in postings if posting.mandate_no in claiming] if claiming else []


class Charges:
    """The charge itself, with the charge keys and prices that this worker has seen."""

    def __init__(self, default_markup: Decimal) -> None:
        self._default_markup = default_markup
        self._charge_keys = ChargeKeyCache()
        self._descriptions = DescriptionCache()
        self._tariffs = Tariffs()
        self._quotes: Quotes | None = None

    async def assign_charge_keys(self, connection: AsyncConnection, usages: Sequence[Usage], now: datetime) -> None:
        """Gives each event its charge keys; new ones are committed by themselves, before the charge that needs them,
        and so are new descriptions."""
        unknown: dict[UsageDimensions, None] = {}
        for usage in usages:
            keys = self._charge_keys.get(usage.names)
            if keys is None:
                unknown[UsageDimensions(*usage.names)] = None
            else:
                usage.keys = keys
        if unknown:
            found = await find_charge_keys(connection, unknown)
            missing = [name for name in unknown if name not in found]
            if missing:
                found |= await _make_charge_keys(connection, missing, now)
            self._charge_keys.remember(found.items())
            for usage in usages:
                if usage.names in found:
                    usage.keys = found[UsageDimensions(*usage.names)]
        described = self._descriptions.unknown(usages)
        if described:
            async with begin(connection):
                kept = await keep_descriptions(connection, described)
            self._descriptions.remember(kept)

    async def pricing_context(
        self,
        connection: AsyncConnection,
        usages: Iterable[Usage],
        cancellations: Iterable[CancellationEvent] = (),
        *,
        lock: bool = False,
    ) -> PricingContext:
        """Reads the terms of the events' mandates, and the tariff. With `lock` it locks the mandates before, until the
        caller's transaction ends: for who would otherwise begin again for ever, because reading all prices can take
        longer than it is until they change the next time."""
        numbers = {usage.keys.mandate_no for usage in usages} | {each.mandate_no for each in cancellations}
        if lock:
            await lock_pricing_versions(connection, numbers)
        terms, revision = await read_terms(connection, numbers, default_markup=self._default_markup)
        tariff = await self._tariffs.at(connection, revision)
        if self._quotes is None or self._quotes.tariff is not tariff:
            self._quotes = Quotes(tariff)
        return PricingContext(terms, tariff, self._quotes)

    async def charge(
        self,
        connection: AsyncConnection,
        usages: Sequence[Usage],
        context: PricingContext,
        now: datetime,
        cancellations: Sequence[CancellationEvent] = (),
        *,
        arrived: Mapping[Identity, datetime] | None = None,
        locked: bool = False,
    ) -> Outcome:
        """Charges events, in the caller's transaction; raises when one of them is claimed, or the terms have changed.
        `arrived` says of usage that has waited when it came; it was taken then, so it is not refused as late. `locked`
        says that the caller has read the context under the locks of its mandates.

        The mandates are locked, and with them their accounts; rows, balances and rollups are written, the balances are
        marked as unpublished, and holds that the usage names are settled. Then usage that is cancelled, now or before,
        is taken back, and at last it is noted which balances are low after all of it. The number of statements does not
        depend on the number of events.
        """
        late = late_usage(usages, context.terms, now) if arrived is None else []
        arrived = arrived or {}
        if late:
            left_out = {usage.identity for usage in late}
            usages = [usage for usage in usages if usage.identity not in left_out]
        postings, unposted, reports = split_by_price(usages, context, now, arrived)
        count_in_open_period(postings, context.terms, arrived, now)
        if not locked:
            await _lock(connection, context)
        await _look_up(connection, context.to_look_up(postings), unposted, late)
        prepared = await _write(connection, usages, postings, context, now)
        too_large = _those(usages, {posting.identity for posting in prepared.out_of_range})
        if unposted:
            await _claim(connection, unposted, context)
            await keep_reports(connection, reports)
        await settle_holds(connection, _naming_holds(usages, unposted, too_large), now=now)
        settled = await settle_cancellations(connection, cancellations, usages, context.terms, now=now)
        given_back = bool(cancellations) or any(terms.has_cancellations for terms in context.terms.values())
        await note_low_balances(connection, prepared.accounts.values(), now=now, moved_again=given_back)
        free = sum(1 for event in unposted if event.reason == "FREE")
        charged = len(postings) - len(too_large)
        return Outcome(charged, free, len(unposted) - free, too_large, late, settled, prepared.rows)


async def _make_charge_keys(
    connection: AsyncConnection, names: Sequence[UsageDimensions], now: datetime
) -> dict[UsageDimensions, ChargeKeys]:
    async with begin(connection):
        numbers = await ensure_mandates(connection, [name.mandate_id for name in names])
        mandates = await lock_mandates(connection, numbers.values())
        made = await ensure_charge_keys(connection, names, numbers)
        await give_opening_credit(connection, mandates, now=now)
    return made


def _naming_holds(
    usages: Sequence[Usage], unposted: Sequence[UnpostedEvent], too_large: Sequence[Usage]
) -> list[tuple[int, UUID, UUID]]:
    """The holds that usage settles, as (mandate, hold, event). What waits for a price leaves its hold as it is: it is
    settled when the usage is charged, if its time is not over by then."""
    naming = [(usage, hold) for usage in usages if (hold := usage.hold_id) is not None]
    if not naming:
        return []
    unsettled = {(event.mandate_no, event.event_id.bytes) for event in unposted if event.reason != "FREE"}
    unsettled |= {usage.identity for usage in too_large}
    return [(usage.keys.mandate_no, hold, usage.id) for usage, hold in naming if usage.identity not in unsettled]


async def _claim(connection: AsyncConnection, unposted: Sequence[UnpostedEvent], context: PricingContext) -> None:
    """Writes events that are free or parked, and notes in their mandates that there are some."""
    await insert_unposted(connection, unposted)
    unmarked = {entry.mandate_no for entry in unposted if not context.terms[entry.mandate_no].has_unposted}
    if unmarked:
        await mark_unposted(connection, unmarked)


async def _lock(connection: AsyncConnection, context: PricingContext) -> None:
    """Locks the mandates, whose terms and prices must be those that the events were priced by.

    The locks may have been waited for. A re-rating that was ordered meanwhile does not find what is not written yet, so
    where prices have changed the events are priced anew. Where they have not, the re-rating waits for these locks.
    """
    if context.terms:
        versions = await lock_pricing_versions(connection, context.terms)
        if any(versions[no] != terms.pricing_version for no, terms in context.terms.items()):
            raise TermsChanged
        # In a statement of its own, because that of the lock sees what was committed before it began to wait.
        if await current_revision(connection) != context.tariff.revision:
            raise TermsChanged


async def _look_up(
    connection: AsyncConnection,
    priced: Sequence[Identity],
    unposted: Sequence[UnpostedEvent],
    late: Sequence[Usage],
) -> None:
    """Raises for events that are claimed in the other table than the one whose key would find them: what is charged now
    but was free or parked, and the reverse; and for late ones that are claimed at all, which are not refused then.
    Under the mandates' locks, so nobody claims one of them meanwhile."""
    claimed = await claimed_digests(connection, priced)
    identities = [(entry.mandate_no, entry.event_id.bytes) for entry in unposted]
    identities += [usage.identity for usage in late]
    claimed |= await recorded_digests(connection, "both", identities)
    if claimed:
        raise AlreadyRecorded(claimed)


async def _write(
    connection: AsyncConnection,
    usages: Sequence[Usage],
    postings: Sequence[Posting],
    context: PricingContext,
    now: datetime,
) -> PreparedPostings:
    """Writes the charges, and gives what was written and what would take its account out of the ledger's range."""
    calendars = {no: terms.calendar for no, terms in context.terms.items()}
    prepared = await prepare_postings(connection, postings, calendars=calendars, now=now)
    if prepared.faulty:
        why = {posting.identity: type(error).__name__ for posting, error in prepared.faulty}
        _blame([(usage, why[usage.identity]) for usage in _those(usages, why)])
    # Some of it may be taken back by cancellations.
    await write_prepared(connection, prepared, more_follows=True)
    return prepared


def _those(usages: Iterable[Usage], identities: Collection[Identity]) -> list[Usage]:
    # Usually there are none, and a batch is not walked through for nothing.
    return [usage for usage in usages if usage.identity in identities] if identities else []


class Split(NamedTuple):
    """A batch by what becomes of its events; those that report storage in use are claimed, too."""

    postings: list[Posting]
    unposted: list[UnpostedEvent]
    reports: list[StorageReport]


def split_by_price(
    usages: Iterable[Usage], context: PricingContext, now: datetime, arrived: Mapping[Identity, datetime]
) -> Split:
    """Splits usage into postings, to the account that pays, and events that are claimed without one: free, or parked
    until they have a price. `arrived` says when usage came that has waited before.

    Storage without a cost of its own is free as an event, and reported: its plan charges it by the period.
    """
    terms, tariff, quotes = context
    postings: list[Posting] = []
    unposted: list[UnpostedEvent] = []
    reports: list[StorageReport] = []
    faults: list[tuple[Usage, str]] = []
    for usage in usages:
        keys = usage.keys
        term = terms[keys.mandate_no]
        quoted = _quoted(usage, quotes, term.markup)
        if quoted is not None:
            price, source = quoted
            postings.append(usage.posting(price, source, keys.posted_account_no(term.billing_model)))
            continue
        try:
            event, data, tokens = usage.published()
            if data.bytes_in_use is not None and data.kind == "storage" and data.cost is None:
                instance, came = data.feature_instance_id or "", arrived.get(usage.identity, now)
                claim = UnpostedEvent.free(keys.mandate_no, event, now, tariff.revision)
                unposted.append(claim._replace(detail=instance))
                reports.append(StorageReport(keys.mandate_no, event.id, instance, data.bytes_in_use, event.time, came))
                continue
            rated = rate_usage(billable(data, tokens), event.time, tariff, term.markup)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this event's fault and is named with it.
            faults.append((usage, type(error).__name__))
            continue
        if isinstance(rated, Parked):
            came = arrived.get(usage.identity, now)
            unposted.append(UnpostedEvent.parked(keys.mandate_no, event, rated, came, tariff.revision))
        elif not rated.exact:
            unposted.append(UnpostedEvent.free(keys.mandate_no, event, now, tariff.revision))
        else:
            account_no = keys.posted_account_no(term.billing_model)
            postings.append(usage.posting(exact(rated.exact), rated.source, account_no))
    _blame(faults)
    return Split(postings, unposted, reports)


def _quoted(usage: Usage, quotes: Quotes, markup: Markup) -> tuple[int, PriceSource] | None:
    """The price in the fast form; None where the published one has to find it."""
    if not isinstance(usage.data, UsageData):
        return None
    try:
        return quotes.price(usage.data, usage.counts, usage.time, markup)
    except Exception as error:  # noqa: BLE001 - whatever it is, the published form decides.
        FAST_FORM_ERRORS.labels("price").inc()
        _log.warning("usage priced in the published form", error=type(error).__name__)
        return None


def _published(usages: Sequence[Usage]) -> int:
    return sum(1 for usage in usages if usage.event is not None)


def _blame(faults: Sequence[tuple[Usage, str]]) -> None:
    """Raises an error that names all events at fault; parked ones are not named, because their job isolates them."""
    received = [(usage, why) for usage, why in faults if usage.record is not None]
    if received:
        raise UnprocessableEvents(received)
    if faults:
        raise ValueError(faults[0][1])
