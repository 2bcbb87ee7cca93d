"""Somebody joins a mandate that invited them: what was pending becomes real and is published, in one transaction."""

from datetime import datetime

from services.chassis.caller import Forbidden
from services.chassis.database import Database
from services.chassis.outbox import append_outbox
from services.gateway.directory import queries, repository
from services.gateway.directory.bodies import InvitationAnswer
from services.gateway.directory.domain.entries import KIND_BY_NAME
from services.gateway.directory.errors import UnknownReference
from services.gateway.directory.publications import directory_changed

__all__ = ["accept_invitation"]


async def accept_invitation(
    database: Database, mandate_id: str, user_id: str, *, cause: str, now: datetime
) -> InvitationAnswer:
    """Accepts the invitation and returns it as it was; refuses anyone not invited, whether the mandate exists or
    not."""
    async with database.transaction() as connection:
        invitation = await queries.invitation(connection, user_id, mandate_id)
        if invitation is None:
            raise Forbidden
        if await repository.missing(connection, KIND_BY_NAME["user"], [user_id]):
            raise UnknownReference("user", user_id)
        membership, access = KIND_BY_NAME["membership"], KIND_BY_NAME["feature_access"]
        joined = await repository.accept(connection, membership, mandate_id, user_id)
        given = await repository.accept(connection, access, mandate_id, user_id)
        if not (joined or (given and not invitation.roles)):
            # It was withdrawn since it was read.
            raise Forbidden
        for kind, accepted in ((membership, joined), (access, given)):
            await append_outbox(connection, directory_changed(kind, accepted, cause=cause, now=now))
    return invitation
