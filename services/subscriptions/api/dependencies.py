"""FastAPI dependencies: the objects that the routes use, and the access checks that come first."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request
from pydantic import WithJsonSchema

from services.chassis.bodies import IDENTIFIER_SCHEMA
from services.chassis.caller import CurrentCaller
from services.chassis.clock import Clock
from services.chassis.consumer_progress import ConsumerProgress
from services.chassis.database import Database
from services.subscriptions.catalogue import Catalogue
from services.subscriptions.queries import require_known

__all__ = ["ApiContext", "Context", "MandateId", "require_admin", "require_member"]


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The objects that the routes use; the application has them as `state.context`."""

    database: Database
    catalogue: Catalogue
    consumer_progress: ConsumerProgress
    clock: Clock


async def _context(request: Request) -> ApiContext:
    context: ApiContext = request.app.state.context
    return context


Context = Annotated[ApiContext, Depends(_context)]
MandateId = Annotated[str, Path(alias="mandateId"), WithJsonSchema(IDENTIFIER_SCHEMA)]


async def require_member(context: Context, caller: CurrentCaller, mandate_id: MandateId) -> None:
    """For routes of a mandate's members: checked before the body is read."""
    caller.require_member(mandate_id)
    await require_known(context.database, caller, mandate_id)


async def require_admin(context: Context, caller: CurrentCaller, mandate_id: MandateId) -> None:
    """For routes of a mandate's administrators: checked before the body is read."""
    caller.require_admin(mandate_id)
    await require_member(context, caller, mandate_id)
