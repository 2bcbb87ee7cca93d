"""Maintains billing's copy of the directory, and the settings and accounts that follow from it."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.directory.v1 import DirectoryChanged, Mandate, Membership
from services.billing.ledger.keys import ensure_mandates
from services.billing.mandates.directory import write_entry
from services.billing.mandates.open_accounts import open_member_accounts
from services.billing.mandates.queries import enabled_mandates, enabled_members
from services.billing.mandates.repository import lock_mandates
from services.chassis.clock import Clock
from services.chassis.consumer import Received, data_of
from services.chassis.database import Database, begin
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.quarantine import Refused, quarantine

__all__ = ["ApplyDirectory"]

# Mandates in one transaction of `resync`.
RESYNC_MANDATES = 100


class ApplyDirectory:
    """The handler of directory.changed. An entry older than the one that is here changes nothing."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction: entries, settings of mandates, accounts and opening credit of members."""
        now = self._clock()
        async with self._database.transaction() as connection:
            members: list[tuple[str, str]] = []
            mandates: set[str] = set()
            for received in events:
                await _write(connection, data_of(received.event, DirectoryChanged), mandates, members)
            await _follow(connection, mandates, members, now=now)
            await quarantine(connection, refused, group="billing", now=now)
        EVENTS_CONSUMED.labels("directory.changed", "applied").inc(len(events))
        return refused

    async def resync(self) -> int:
        """Settings for every enabled mandate, an account for every enabled member; returns how many. Idempotent."""
        now = self._clock()
        count = 0
        async with self._database.reading() as connection:
            enabled = await enabled_mandates(connection)
            for start in range(0, len(enabled), RESYNC_MANDATES):
                # A transaction for a few, because their charges wait for it.
                some = enabled[start : start + RESYNC_MANDATES]
                async with begin(connection):
                    members = await enabled_members(connection, some)
                    await _follow(connection, set(some), members, now=now)
                count += len(members)
        return count


async def _write(
    connection: AsyncConnection, changed: DirectoryChanged, mandates: set[str], members: list[tuple[str, str]]
) -> None:
    if not await write_entry(connection, changed.entry, changed.version):
        return
    match changed.entry:
        case Mandate(enabled=True) as mandate:
            mandates.add(mandate.id)
        case Membership(enabled=True) as member:
            mandates.add(member.mandate_id)
            members.append((member.mandate_id, member.user_id))


async def _follow(
    connection: AsyncConnection, mandates: set[str], members: Sequence[tuple[str, str]], *, now: datetime
) -> None:
    """Settings for the mandates and accounts for the members, where they are not there yet."""
    if mandates:
        numbers = await ensure_mandates(connection, sorted(mandates))
        pairs = [(numbers[mandate_id], user_id) for mandate_id, user_id in members]
        locked = await lock_mandates(connection, {mandate_no for mandate_no, _ in pairs})
        await open_member_accounts(connection, pairs, mandates=locked, now=now)
