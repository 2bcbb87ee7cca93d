"""Changes of the directory by its routes: the caller is answered when the other services have read the change, or after
a bounded time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Request

from services.chassis.caller import Caller, Forbidden
from services.chassis.clock import Clock
from services.chassis.consumer_progress import ConsumerProgress
from services.chassis.database import Database
from services.chassis.requests import request_id_of
from services.chassis.state import of_state
from services.gateway.directory import queries
from services.gateway.directory.accept_invitation import accept_invitation
from services.gateway.directory.bodies import InvitationAnswer
from services.gateway.directory.change_entries import disable_entry, put_entry, reset_provider_permissions
from services.gateway.directory.domain.entries import Entry, Kind
from services.gateway.directory.domain.roles import RoleNames
from services.gateway.directory.errors import UnknownRoleNamed
from services.gateway.directory.import_directory import import_directory
from services.gateway.directory.member_limits import MemberLimits
from services.gateway.directory.publications import TOPIC

__all__ = ["CHANGED_BY_MANDATE_ADMINS", "Directory", "TheDirectory"]

# What an administrator of a mandate may change there.
CHANGED_BY_MANDATE_ADMINS = ("membership", "feature_access")


@dataclass(frozen=True, slots=True)
class Directory:
    """The object that the routes use. The id of a request is the causation id of its events."""

    database: Database
    consumer_progress: ConsumerProgress
    clock: Clock
    roles: RoleNames
    page_size_max: int
    member_limits: MemberLimits

    async def require(self, caller: Caller, kind: Kind, key: Sequence[str]) -> None:
        """Refuses callers who may not change this entry, without revealing whether a feature instance exists."""
        if caller.system_admin:
            return
        if kind.name not in CHANGED_BY_MANDATE_ADMINS or not caller.administered:
            raise Forbidden
        mandate_id: str | None = key[0]
        if kind.name == "feature_access":
            mandate_id = await queries.instance_mandate(self.database, key[0])
        if mandate_id is None or not caller.mandates.get(mandate_id, False):
            raise Forbidden

    async def put(self, caller: Caller, kind: Kind, entry: Entry, *, request: Request) -> Entry:
        """Creates or changes the entry; returns it as stored."""
        unknown = self.roles.unknown(kind.name, entry.row())
        if unknown is not None:
            raise UnknownRoleNamed(unknown)
        administered = None if caller.system_admin else caller.administered
        cause, now = request_id_of(request), self.clock()
        members_max = None
        # A system administrator, and the import, are not bound to a plan.
        if kind.name == "membership" and not caller.system_admin and entry.row()["enabled"]:
            members_max = await self.member_limits.of(caller, entry.row()["mandate_id"], request=request)
        stands, told = await put_entry(
            self.database,
            kind,
            entry,
            administered=administered,
            members_max=members_max,
            cause=cause,
            now=now,
        )
        await self._settle(told)
        return stands

    async def disable(self, kind: Kind, key: Sequence[str], *, request: Request) -> Entry:
        """Disables the entry; returns it."""
        cause, now = request_id_of(request), self.clock()
        entry, told = await disable_entry(self.database, kind, key, cause=cause, now=now)
        await self._settle(told)
        return entry

    async def reset_providers(self, mandate_id: str, role: str, *, request: Request) -> None:
        """Gives a role the platform's default providers again."""
        cause, now = request_id_of(request), self.clock()
        await reset_provider_permissions(self.database, mandate_id, role, cause=cause, now=now)
        await self._settle(told=True)

    async def take_import(self, body: bytes, *, request: Request) -> tuple[int, int]:
        """Imports the lines; returns how many there were and how many entries changed."""
        cause, now = request_id_of(request), self.clock()
        lines, changed = await import_directory(self.database, body, roles=self.roles, cause=cause, now=now)
        await self._settle(told=changed > 0)
        return lines, changed

    async def accept(self, mandate_id: str, user_id: str, *, request: Request) -> InvitationAnswer:
        """Accepts an invitation; returns it as it was."""
        cause, now = request_id_of(request), self.clock()
        accepted = await accept_invitation(self.database, mandate_id, user_id, cause=cause, now=now)
        await self._settle(told=True)
        return accepted

    async def _settle(self, told: bool) -> None:
        if told:
            await self.consumer_progress.caught_up(TOPIC)


TheDirectory = Annotated[Directory, of_state("directory")]
