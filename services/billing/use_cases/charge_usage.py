"""Charging usage: a batch of events becomes ledger rows, balances, rollups and facts, in one transaction.

Read `ChargeUsage.__call__` from top to bottom: that is the whole charge. It is exactly once in effect because the
identity of an event (its id within its mandate) is the key of its ledger row or of its row among the uncharged
events, and because everything a charge does stands or falls with that one transaction.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import asyncpg
from asyncpg.exceptions import UniqueViolationError

from rappen_contracts import Event
from rappen_contracts.usage.v1 import TOKEN_KINDS, UsageRecorded
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
from services.billing.domain.ledger import LockedAccount, Transaction, charged_account_type
from services.billing.domain.money import post
from services.billing.domain.prices import PROMPT_KINDS
from services.billing.publications import balances_changed
from services.billing.repository.keys import AccountKey, DimensionKey, Keys
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

__all__ = ["GROUP", "ChargeUsage", "TermsChanged", "Usage", "charge", "resolve_keys"]

GROUP = "billing"
TOPIC = "usage.recorded"

_INPUT_KINDS = tuple(kind for kind in TOKEN_KINDS if kind in PROMPT_KINDS)
_OUTPUT_KINDS = tuple(kind for kind in TOKEN_KINDS if kind not in PROMPT_KINDS)


@dataclass(slots=True)
class Usage:
    """A usage event on its way through the charge, with the narrow keys that stand for it in the ledger."""

    event: Event
    data: UsageRecorded
    received: Received | None = None
    mandate_no: int = 0
    member_no: int = 0
    dimension_no: int = 0

    @property
    def identity(self) -> tuple[int, UUID]:
        """What makes two deliveries the same event."""
        return self.mandate_no, self.event.id


class TermsChanged(Exception):  # noqa: N818 - a signal to begin again, not an error.
    """Settings changed between pricing and locking."""


class ChargeUsage:
    """The handler of usage.recorded. One worker runs one at a time."""

    def __init__(self, database: Database, *, default_markup: Decimal, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._default_markup = default_markup
        self._clock = clock
        self._faults = faults
        self._keys = Keys()
        self._tariffs = Tariffs()

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> None:
        """Settles a batch: every event is charged, free, parked, a repeat, or refused; nothing else can happen."""
        async with self._database.bare() as connection:
            usages = [_usage(received) for received in events]
            await self._resolve(connection, usages)
            usages, repeats, conflicts = _distinct(usages)
            known: dict[tuple[int, UUID], bytes] = {}
            while True:
                fresh, again, other = _compare(usages, known)
                try:
                    async with connection.transaction():
                        seen = await recorded_digests(connection, "uncharged_events", [u.identity for u in fresh])
                        fresh, again_uncharged, other_uncharged = _compare(fresh, seen)
                        outcome = await self._charge(connection, fresh)
                        rejected = [*refused, *conflicts, *other, *other_uncharged]
                        await quarantine(connection, rejected, group=GROUP, now=self._clock())
                        self._faults.reach("before_commit")
                except UniqueViolationError as error:
                    # Somebody recorded some of these events already. Look which, then write the rest.
                    found = await recorded_digests(connection, "transactions", [u.identity for u in usages])
                    if error.table_name == "transactions" and found.keys() <= known.keys():
                        raise
                    known |= found
                except TermsChanged:
                    await asyncio.sleep(0)
                else:
                    break
        self._keys.trim()
        outcome["repeated"] = repeats + len(again) + len(again_uncharged)
        outcome["refused"] = len(rejected)
        for name, count in outcome.items():
            if count:
                EVENTS_CONSUMED.labels(TOPIC, name).inc(count)

    async def _resolve(self, connection: asyncpg.Connection, usages: Sequence[Usage]) -> None:
        """Finds or makes the numbers of mandates, accounts and dimensions, before and outside of the charge."""
        await resolve_keys(connection, self._keys, usages, now=self._clock())

    async def _charge(self, connection: asyncpg.Connection, usages: Sequence[Usage]) -> dict[str, int]:
        return await charge(
            connection,
            usages,
            keys=self._keys,
            tariffs=self._tariffs,
            default_markup=self._default_markup,
            now=self._clock(),
        )


async def charge(
    connection: asyncpg.Connection,
    usages: Sequence[Usage],
    *,
    keys: Keys,
    tariffs: Tariffs,
    default_markup: Decimal,
    now: datetime,
) -> dict[str, int]:
    """Charges events that nobody has claimed yet, in the caller's transaction; counts them by outcome.

    Statements: terms, tariff revision and locks are read, rows, balances, rollups and facts are written; their number
    does not depend on the number of events.
    """
    terms, revision = await read_terms(connection, {u.mandate_no for u in usages}, default_markup=default_markup)
    tariff = await tariffs.at(connection, revision)
    priced, uncharged = _price(usages, terms, tariff, now)
    accounts = await lock_accounts(
        connection, {(usage.mandate_no, _moved_no(usage, terms, keys)) for usage, _ in priced}
    )
    if priced and await changed_terms(connection, list(terms.values())):
        raise TermsChanged
    rows: list[Transaction] = []
    sums: dict[RollupKey, tuple[int, int]] = {}
    for usage, rated in priced:
        account = accounts[_moved_no(usage, terms, keys)]
        row = _post(usage, rated, account, terms[usage.mandate_no], now)
        rows.append(row)
        key = RollupKey(usage.mandate_no, usage.member_no, row.period_day, usage.dimension_no)
        cost, count = sums.get(key, (0, 0))
        sums[key] = cost + row.amount, count + 1
    # In the order of the key, so that two workers with the same events wait for each other instead of deadlocking.
    rows.sort(key=lambda row: (row.mandate_no, row.event_id))
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
) -> tuple[list[tuple[Usage, RatedUsage]], list[UnchargedEvent]]:
    """Splits usage into what is charged and what is claimed without a charge: free, or parked until it has a price."""
    priced: list[tuple[Usage, RatedUsage]] = []
    uncharged: list[UnchargedEvent] = []
    for usage in usages:
        at = usage.event.time
        rated = rate_usage(Estimate.of(usage.data), at, tariff, terms[usage.mandate_no].markup_percent)
        if isinstance(rated, Parked):
            uncharged.append(UnchargedEvent.parked(usage.mandate_no, usage.event, rated, now, tariff.revision))
        elif not rated.exact:
            uncharged.append(UnchargedEvent.free(usage.mandate_no, usage.event, now, tariff.revision))
        else:
            priced.append((usage, rated))
    return priced, uncharged


def _post(usage: Usage, rated: RatedUsage, account: LockedAccount, terms: Terms, now: datetime) -> Transaction:
    """Rounds once with the account's carry, moves the balance, and writes down how the amount came about."""
    data = usage.data
    carry_before = account.carry
    amount, account.carry = post(rated.exact, carry_before)
    account.move(-amount)
    tokens = data.tokens.counts() if data.tokens is not None else {}
    return Transaction(
        mandate_no=usage.mandate_no,
        event_id=usage.event.id,
        account_no=usage.member_no,
        moved_account_no=account.no,
        seq=account.seq,
        transaction_type="DEBIT",
        amount=amount,
        balance_after=account.balance,
        counter="REVENUE",
        reference_type="WORKFLOW" if data.kind == "ai" else "STORAGE",
        occurred_at=usage.event.time,
        recorded_at=now,
        period_day=period_day(usage.event.time, terms.time_zone),
        digest=usage.event.digest,
        description=data.description,
        dimension_no=usage.dimension_no,
        workflow_id=data.workflow_id,
        processing_time_ms=data.processing_time_ms,
        bytes_sent=data.bytes_sent,
        bytes_received=data.bytes_received,
        error_count=data.error_count,
        input_tokens=sum(tokens.get(kind, 0) for kind in _INPUT_KINDS) if tokens else None,
        output_tokens=sum(tokens.get(kind, 0) for kind in _OUTPUT_KINDS) if tokens else None,
        derivation=derivation(data, rated, carry_before, account.carry, tokens),
    )


def _moved_no(usage: Usage, terms: dict[int, Terms], keys: Keys) -> int:
    """The number of the account that pays, by the mandate's billing model."""
    kind = charged_account_type(terms[usage.mandate_no].billing_model)
    return usage.member_no if kind == "USER" else keys.accounts[AccountKey(usage.mandate_no, kind)]


async def resolve_keys(connection: asyncpg.Connection, keys: Keys, usages: Sequence[Usage], *, now: datetime) -> None:
    """Gives each event its narrow keys; what is new is committed by itself, before the charge that needs it."""
    async with connection.transaction():
        await keys.learn_mandates(connection, {usage.data.mandate_id for usage in usages})
        for usage in usages:
            usage.mandate_no = keys.mandates[usage.data.mandate_id]
        mandate_numbers = {usage.mandate_no for usage in usages}
        new_accounts = await keys.learn_accounts(
            connection,
            [
                *(AccountKey(no, kind) for no in mandate_numbers for kind in ("MANDATE", "INTERNAL")),
                *(AccountKey(usage.mandate_no, "USER", usage.data.user_id) for usage in usages),
            ],
        )
        await keys.learn_dimensions(connection, map(_dimension, usages))
        members = [key for key in new_accounts if key.type == "USER"]
        if members:
            await give_opening_credit(connection, {key.mandate_no for key in members}, now=now)
    for usage in usages:
        usage.member_no = keys.accounts[AccountKey(usage.mandate_no, "USER", usage.data.user_id)]
        usage.dimension_no = keys.dimensions[_dimension(usage)]


def _usage(received: Received) -> Usage:
    data = received.event.data
    if not isinstance(data, UsageRecorded):
        raise TypeError(f"{type(data).__name__} is not usage")
    return Usage(received.event, data, received)


def _dimension(usage: Usage) -> DimensionKey:
    data = usage.data
    return DimensionKey(usage.mandate_no, data.provider, data.model, data.feature_code, data.feature_instance_id)


def _distinct(usages: Sequence[Usage]) -> tuple[list[Usage], int, list[Refused]]:
    """The first of each identity within the batch, the number of its repeats, and what contradicts it."""
    first: dict[tuple[int, UUID], Usage] = {}
    repeats, conflicts = 0, []
    for usage in usages:
        known = first.setdefault(usage.identity, usage)
        if known is not usage:
            if known.event.digest == usage.event.digest:
                repeats += 1
            else:
                conflicts.append(_conflict(usage))
    return list(first.values()), repeats, conflicts


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
