"""GET /api/billing/admin/users/{mandateId}: the members of a mandate by name, which only the directory knows."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from rappen_contracts.types import Identifier
from services.chassis.caller import MandateUnknown
from services.chassis.operations import Access, operation
from services.gateway.directory import queries
from services.gateway.directory.bodies import Member
from services.gateway.directory.changes import TheDirectory
from services.gateway.edge.admission import Admitted, PublicRoute

__all__ = ["api"]

api = APIRouter(route_class=PublicRoute)


@api.get(
    "/api/billing/admin/users/{mandateId}",
    **operation(
        "billing-list-users",
        "The enabled members of a mandate, by what they are called.",
        access=Access.MANDATE_ADMIN,
        limit=30,
        answer=list[Member],
        refuses=(404, 422),
    ),
)
async def list_members(
    call: Admitted, directory: TheDirectory, mandate_id: Annotated[Identifier, Path(alias="mandateId")]
) -> list[dict[str, Any]]:
    call.caller.require_admin(mandate_id)
    members = await queries.members_of(directory.database, mandate_id)
    if members is None:
        raise MandateUnknown
    return [
        {
            "id": member.id,
            "username": member.username or "",
            "email": member.email or "",
            "firstName": member.first_name or "",
            "lastName": member.last_name or "",
            "displayName": member.display_name,
        }
        for member in members
    ]
