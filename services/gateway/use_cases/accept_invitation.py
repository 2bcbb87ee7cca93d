"""Somebody joins a mandate that invited them: what was pending becomes real and is told, in one transaction."""

from datetime import datetime

from services.chassis.caller import Forbidden
from services.chassis.database import Database
from services.chassis.outbox import append_outbox
from services.gateway import queries, repository
from services.gateway.domain.entries import KIND_BY_NAME
from services.gateway.errors import UnknownReference
from services.gateway.publications import directory_changed
from services.gateway.queries import Invitation

__all__ = ["accept_invitation"]


async def accept_invitation(
    database: Database, mandate_id: str, user_id: str, *, cause: str, now: datetime
) -> Invitation:
    """Accepts it and returns it as it was; refuses who is not invited, whether the mandate exists or not."""
    async with database.bare() as connection, connection.transaction():
        open_, _ = await queries.invitations(connection, user_id, mandate_id=mandate_id)
        if not open_:
            raise Forbidden
        if await repository.missing(connection, KIND_BY_NAME["user"], [user_id]):
            raise UnknownReference("user", user_id)
        for kind in (KIND_BY_NAME["membership"], KIND_BY_NAME["feature_access"]):
            accepted = await repository.accept(connection, kind, mandate_id, user_id)
            if kind.name == "membership" and open_[0].roles and not accepted:
                # It was withdrawn since it was read.
                raise Forbidden
            await append_outbox(connection, directory_changed(kind, accepted, cause=cause, now=now))
    return open_[0]
