"""GET /api/billing/balance, /balance/{mandateId}, /markup, /providers."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from services.billing.checks.providers import provider_catalogue, providers_of_member
from services.billing.errors import MalformedParameter
from services.billing.http import ApiContext, id_parameter, mandate_parameter, router
from services.billing.mandates.queries import ensure_known, markup_in_force
from services.billing.pricing.repository import Tariffs
from services.billing.reports.balances import own_balances
from services.chassis.caller import Caller

__all__ = ["routes"]


def routes(context: ApiContext, tariffs: Tariffs) -> APIRouter:
    """What a member sees of money and terms."""
    api = router()
    Who = Annotated[Caller, Depends(context.caller)]

    @api.get("/api/billing/balance")
    async def balances(caller: Who) -> list[dict[str, Any]]:
        caller.require_person()
        async with context.database.bare() as connection:
            return await own_balances(connection, caller, sorted(caller.mandates))

    @api.get("/api/billing/balance/{mandate_id}")
    async def balance(caller: Who, mandate_id: str) -> dict[str, Any]:
        caller.require_member(mandate_parameter(mandate_id))
        async with context.database.bare() as connection:
            await ensure_known(connection, mandate_id)
            return (await own_balances(connection, caller, [mandate_id]))[0]

    @api.get("/api/billing/markup")
    async def markup(caller: Who, mandate_id: Annotated[str, Query(alias="mandateId")]) -> dict[str, Any]:
        mandate_parameter(mandate_id)
        if caller.service:
            caller.require_scope("usage:check")
        else:
            caller.require_member(mandate_id)
        async with context.database.bare() as connection:
            number = await ensure_known(connection, mandate_id)
            return {"percent": await markup_in_force(connection, number, context.settings.default_markup_percent)}

    @api.get("/api/billing/providers")
    async def providers(
        caller: Who,
        mandate_id: Annotated[str | None, Query(alias="mandateId")] = None,
        user_id: Annotated[str | None, Query(alias="userId")] = None,
    ) -> list[str]:
        mandates = _mandates(caller, mandate_id)
        user = _user(caller, user_id)
        async with context.database.bare() as connection:
            catalogue = await provider_catalogue(connection, tariffs, context.settings)
            if caller.system_admin and not mandates:
                return sorted(catalogue)
            found: frozenset[str] = frozenset()
            for mandate in mandates:
                found |= await providers_of_member(connection, mandate, user, catalogue, context.settings)
            return sorted(found)

    return api


def _mandates(caller: Caller, named: str | None) -> list[str]:
    """The mandates an answer is about: the one named, else the context's, else all of the caller's."""
    if caller.service:
        caller.require_scope("usage:check")
        if named is None:
            raise MalformedParameter("mandateId", en="a program names a mandate", de="ein Programm nennt ein Mandat")
        return [mandate_parameter(named)]
    one = named if named is not None else caller.context_mandate
    if one is None:
        return sorted(caller.mandates)
    caller.require_member(mandate_parameter(one))
    return [one]


def _user(caller: Caller, named: str | None) -> str:
    """Whose providers: a program names somebody, a person asks for themselves."""
    if not caller.service:
        return caller.user_id
    if named is None:
        raise MalformedParameter("userId", en="a program names a user", de="ein Programm nennt eine Person")
    return id_parameter("userId", named)
