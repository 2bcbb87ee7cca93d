"""The invitations of the person who calls: seen by them alone, and accepted by nobody else."""

from typing import Any

from fastapi import Response

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.exact_json import ExactJsonResponse
from services.chassis.problems import request_id_of
from services.chassis.readers import Readers
from services.gateway import queries
from services.gateway.api.documents.directory import InvitationAnswer, InvitationQuery, InvitationSlice
from services.gateway.api.operations import CHANGES_PER_MINUTE, Call, Operation, Repeat, Surface
from services.gateway.publications import TOPIC
from services.gateway.queries import Invitation
from services.gateway.use_cases.accept_invitation import accept_invitation

__all__ = ["add_invitations"]

_LIST = Operation(
    "GET",
    "/api/directory/invitations",
    "directory-list-invitations",
    "The mandates that invite the caller.",
    query=InvitationQuery,
    answer=InvitationSlice,
    refusals=(422,),
)
_ACCEPT = Operation(
    "POST",
    "/api/directory/invitations/{mandateId}/accept",
    "directory-accept-invitation",
    "Join a mandate that invites the caller, with the features that it offers.",
    limit=CHANGES_PER_MINUTE,
    answer=InvitationAnswer,
    refusals=(404, 422),
    repeat=Repeat.LOOK,
)


def add_invitations(surface: Surface, *, database: Database, readers: Readers, clock: Clock) -> None:
    """Serves both."""

    async def list_all(call: Call) -> Response:
        query: InvitationQuery = call.query
        async with database.bare() as connection:
            found, more = await queries.invitations(
                connection, call.caller.user_id, after=query.cursor, limit=query.limit
            )
        items = [_wire(each) for each in found]
        return ExactJsonResponse({"items": items, "nextCursor": found[-1].mandate_id if more else None})

    async def accept(call: Call) -> Response:
        cause, now = request_id_of(call.request), clock()
        accepted = await accept_invitation(database, call.path["mandateId"], call.caller.user_id, cause=cause, now=now)
        await readers.caught_up(TOPIC)
        return ExactJsonResponse(_wire(accepted))

    surface.add(_LIST, list_all)
    surface.add(_ACCEPT, accept)


def _wire(invitation: Invitation) -> dict[str, Any]:
    return {
        "mandateId": invitation.mandate_id,
        "mandateName": invitation.mandate_name,
        "roles": invitation.roles,
        "features": [
            {"instanceId": id_, "featureCode": code, "label": label, "roles": roles}
            for id_, code, label, roles in invitation.features
        ],
    }
