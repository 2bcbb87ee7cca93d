"""Entries that another service asks the directory to have: all of a request or none, once for its id."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.directory.v1 import DirectoryRequested, FeatureAccess, FeatureInstance, Mandate, Membership
from services.chassis.clock import Clock
from services.chassis.consumer import Received
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.metrics import EVENTS_CONSUMED
from services.chassis.outbox import append_outbox
from services.chassis.quarantine import Refused, quarantine
from services.gateway.directory import repository
from services.gateway.directory.domain.entries import KIND_BY_NAME, KINDS
from services.gateway.directory.publications import directory_changed

__all__ = ["GROUP", "TOPIC", "ApplyRequests"]

GROUP = "gateway"
TOPIC = "directory.requested"

_Entry = Mandate | Membership | FeatureInstance | FeatureAccess


class ApplyRequests:
    """Handler of directory.requested: applies requests in their order. One that names what the directory does not have
    is refused whole; its neighbours are not held up."""

    def __init__(self, database: Database, *, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._clock = clock
        self._faults = faults

    async def __call__(self, events: Sequence[Received], refused: Sequence[Refused]) -> Sequence[Refused]:
        """Settles a batch in one transaction."""
        rejected, now = list(refused), self._clock()
        async with self._database.transaction() as connection:
            for received in events:
                request = received.event.data
                if not isinstance(request, DirectoryRequested):
                    rejected.append(Refused(received.record, "WRONG_TOPIC", f"{received.event.type} on {TOPIC}"))
                elif (fault := await _fault_of(connection, request)) is not None:
                    rejected.append(Refused(received.record, *fault))
                elif await repository.claim_request(connection, request, now=now):
                    await _apply(connection, request, now)
            await quarantine(connection, rejected, group=GROUP, now=now)
            if events:
                self._faults.reach("directory_request_before_commit")
        self._faults.reach("directory_request_applied")
        EVENTS_CONSUMED.labels(TOPIC, "applied").inc(len(events) + len(refused) - len(rejected))
        return rejected


async def _apply(connection: AsyncConnection, request: DirectoryRequested, now: datetime) -> None:
    cause = str(request.request_id)
    people = {entry.user_id for entry in request.entries if isinstance(entry, Membership | FeatureAccess)}
    if request.requested_by in people:
        # A valid token is enough to be somebody: who acts for themselves before they are entered is entered by it.
        added = await repository.add_user(connection, request.requested_by)
        await append_outbox(connection, directory_changed(KIND_BY_NAME["user"], added, cause=cause, now=now))
    for kind in KINDS:
        # The last word of a request on an entry is what it asks for.
        rows = {kind.key_of(row): row for row in map(_row, _of_kind(request, kind.name))}
        changed = await repository.upsert(connection, kind, list(rows.values()))
        await append_outbox(connection, directory_changed(kind, changed, cause=cause, now=now))


async def _fault_of(connection: AsyncConnection, request: DirectoryRequested) -> tuple[str, str] | None:
    """Why the request cannot be applied, as a code and a sentence; None where it can."""
    if any(_mandate_of(entry) != request.mandate_id for entry in request.entries):
        return "MANDATE_MISMATCH", "an entry belongs to another mandate than the request"
    invalid = _invalid(request)
    if invalid is not None:
        return "INVALID_ENTRY", f"a {invalid} is not as the directory can hold it"
    made = any(isinstance(entry, Mandate) for entry in request.entries)
    if not made and await repository.missing(connection, KIND_BY_NAME["mandate"], [request.mandate_id]):
        return "UNKNOWN_REFERENCE", f"there is no mandate {request.mandate_id}"
    people = {entry.user_id for entry in request.entries if isinstance(entry, Membership | FeatureAccess)}
    unknown = await repository.missing(connection, KIND_BY_NAME["user"], people - {request.requested_by})
    if unknown:
        return "UNKNOWN_REFERENCE", f"there is no user {min(unknown)}"
    instances = {entry.id for entry in request.entries if isinstance(entry, FeatureInstance)}
    accessed = {entry.instance_id for entry in request.entries if isinstance(entry, FeatureAccess)}
    standing = await repository.instance_mandates(connection, instances | accessed)
    if any(mandate_id != request.mandate_id for mandate_id in standing.values()):
        return "INSTANCE_OF_ANOTHER_MANDATE", "a feature instance belongs to another mandate"
    absent = accessed - instances - standing.keys()
    return ("UNKNOWN_REFERENCE", f"there is no feature instance {min(absent)}") if absent else None


def _invalid(request: DirectoryRequested) -> str | None:
    """The kind of an entry that could be stored and not be read again; None where there is none."""
    for entry in request.entries:
        try:
            KIND_BY_NAME[entry.kind].entry.of_row(_row(entry))
        except ValidationError:
            return entry.kind
    return None


def _of_kind(request: DirectoryRequested, kind_name: str) -> list[_Entry]:
    return [entry for entry in request.entries if entry.kind == kind_name]


def _mandate_of(entry: _Entry) -> str:
    return entry.id if isinstance(entry, Mandate) else entry.mandate_id


def _row(entry: _Entry) -> dict[str, Any]:
    """The columns of the entry. What a service of the platform asks for needs nobody's consent."""
    row = entry.model_dump(exclude={"kind"})
    if isinstance(entry, Membership | FeatureAccess):
        row |= {"roles": sorted(set(entry.roles)), "pending": False}
    return row
