"""How many members a mandate may have, which its plan says, and the subscriptions service knows."""

import json
from typing import Final

from fastapi import Request

from services.chassis.caller import Caller
from services.chassis.problems import Unavailable
from services.gateway.edge.forwarding import ServiceClient, path_of, time_for
from services.gateway.edge.operations import SERVICE_S

__all__ = ["MemberLimits"]

PATH: Final = "/internal/member-limit/{mandateId}"


class MemberLimits:
    """Asks for each change that may add a member; where there is no answer, none is added (503)."""

    def __init__(self, subscriptions: ServiceClient) -> None:
        self._subscriptions = subscriptions

    async def of(self, caller: Caller, mandate_id: str, *, request: Request) -> int | None:
        """The most members that the plan in force allows; None for no limit."""
        answer = await self._subscriptions.send(
            "GET",
            path_of(PATH, {"mandateId": mandate_id}),
            caller=caller,
            headers={},
            timeout_s=time_for(request, SERVICE_S),
            repeatable=True,
        )
        if answer.status != 200:
            raise Unavailable
        limit: int | None = json.loads(answer.body)["maxUsers"]
        return limit
