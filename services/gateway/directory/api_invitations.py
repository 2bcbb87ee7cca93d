"""The invitations of the person who calls: seen by them alone, and accepted by nobody else."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from rappen_contracts.types import Identifier
from services.chassis.operations import CHANGES_PER_MINUTE, Repeat, operation
from services.gateway.directory import queries
from services.gateway.directory.bodies import InvitationAnswer, InvitationQuery, InvitationSlice
from services.gateway.directory.changes import TheDirectory
from services.gateway.edge.admission import Admitted, PublicRoute

__all__ = ["api"]

api = APIRouter(route_class=PublicRoute)


@api.get(
    "/api/directory/invitations",
    **operation(
        "directory-list-invitations",
        "The mandates that invite the caller.",
        answer=InvitationSlice,
        refuses=(422,),
    ),
)
async def list_invitations(
    call: Admitted, directory: TheDirectory, query: Annotated[InvitationQuery, Query()]
) -> dict[str, Any]:
    """A page of the caller's invitations, by cursor."""
    found, more = await queries.list_invitations(
        directory.database, call.caller.user_id, after=query.cursor, limit=query.limit
    )
    return {"items": found, "nextCursor": found[-1].mandate_id if more else None}


@api.post(
    "/api/directory/invitations/{mandateId}/accept",
    **operation(
        "directory-accept-invitation",
        "Join a mandate that invites the caller, with the features that it offers.",
        limit=CHANGES_PER_MINUTE,
        answer=InvitationAnswer,
        refuses=(404, 422),
        repeat=Repeat.LOOK,
    ),
)
async def accept(
    call: Admitted, directory: TheDirectory, mandate_id: Annotated[Identifier, Path(alias="mandateId")]
) -> InvitationAnswer:
    """Accepts one of the caller's invitations."""
    return await directory.accept(mandate_id, call.caller.user_id, request=call.request)
