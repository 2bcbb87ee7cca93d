"""GET /api/billing/balance, /balance/{mandateId}, /view/mandates/balances, /view/users/balances, /markup, /providers,
/transactions/{id}/explain."""

from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, Path, Query
from pydantic import WithJsonSchema

from services.billing.checks.providers import list_providers, list_providers_in, list_providers_of_member
from services.billing.errors import MalformedParameter
from services.billing.http import Context, require_mandate_member, router
from services.billing.parameters import IdOf, MandateId
from services.billing.pricing.dependencies import CurrentTariffs
from services.billing.reports.balance_lists import list_mandate_balances, list_member_balances
from services.billing.reports.balances import list_balances, show_balance, show_markup
from services.billing.reports.bodies import Balance, Explanation, MandateBalance, Markup, MemberBalance
from services.billing.reports.explain_transaction import explain_transaction
from services.billing.reports.scope import Scope
from services.chassis.bodies import IDENTIFIER_SCHEMA
from services.chassis.caller import Caller, CurrentCaller, require_person, require_system_admin
from services.chassis.operations import Access, operation

__all__ = ["api"]

api = router()


@api.get(
    "/api/billing/balance",
    dependencies=[Depends(require_person)],
    **operation(
        "billing-list-balances",
        "The caller's balance in each of their mandates.",
        access=Access.PERSON,
        answer=list[Balance],
    ),
)
async def get_balances(context: Context, caller: CurrentCaller) -> list[dict[str, Any]]:
    return await list_balances(context.database, caller, clock=context.clock)


@api.get(
    "/api/billing/balance/{mandateId}",
    dependencies=[Depends(require_mandate_member)],
    **operation(
        "billing-get-balance",
        "The caller's balance in a mandate.",
        access=Access.MEMBER,
        answer=Balance,
        refuses=(404, 422),
    ),
)
async def get_balance(context: Context, caller: CurrentCaller, mandate_id: MandateId) -> dict[str, Any]:
    return await show_balance(context.database, caller, mandate_id, clock=context.clock)


@api.get(
    "/api/billing/view/mandates/balances",
    dependencies=[Depends(require_system_admin)],
    **operation(
        "billing-view-mandates-balances",
        "What each mandate has, with the settings that decide on it.",
        access=Access.SYSTEM_ADMIN,
        limit=30,
        answer=list[MandateBalance],
    ),
)
async def get_mandate_balances(context: Context) -> list[dict[str, Any]]:
    seconds = context.settings.list_statement_s
    return await list_mandate_balances(context.database, now=context.clock(), statement_s=seconds)


@api.get(
    "/api/billing/view/users/balances",
    dependencies=[Depends(require_person)],
    **operation(
        "billing-view-users-balances",
        "The members' accounts in the caller's scope: their own, and those of mandates that they administer.",
        access=Access.PERSON,
        limit=30,
        answer=list[MemberBalance],
    ),
)
async def get_member_balances(context: Context, caller: CurrentCaller) -> list[dict[str, Any]]:
    seconds = context.settings.list_statement_s
    return await list_member_balances(context.database, Scope.of(caller), now=context.clock(), statement_s=seconds)


@api.get(
    "/api/billing/markup",
    **operation(
        "billing-get-markup",
        "The markup in force for a mandate.",
        access=Access.MEMBER_OR_SERVICE_ACCOUNT,
        scope="usage:check",
        answer=Markup,
        refuses=(404, 422),
    ),
)
async def get_markup(
    context: Context, caller: CurrentCaller, mandate_id: Annotated[str, Query(alias="mandateId"), IdOf("mandateId")]
) -> dict[str, Decimal]:
    if caller.service:
        caller.require_scope("usage:check")
    else:
        caller.require_member(mandate_id)
    return await show_markup(context.database, mandate_id, context.settings.default_markup_percent)


@api.get(
    "/api/billing/providers",
    **operation(
        "billing-list-providers",
        "The AI providers that the caller, or for a service account the named member, may use.",
        access=Access.PERSON_OR_SERVICE_ACCOUNT,
        scope="usage:check",
        context=True,
        answer=list[str],
        refuses=(404, 422),
    ),
)
async def get_providers(
    context: Context,
    tariffs: CurrentTariffs,
    caller: CurrentCaller,
    mandate_id: Annotated[str | None, Query(alias="mandateId"), WithJsonSchema(IDENTIFIER_SCHEMA)] = None,
    user_id: Annotated[str | None, Query(alias="userId"), WithJsonSchema(IDENTIFIER_SCHEMA)] = None,
) -> list[str]:
    named = _mandate(caller, mandate_id)
    user = _user(caller, user_id)
    if named is not None:
        return await list_providers_in(context.database, tariffs, context.settings, named, user)
    if caller.system_admin and not caller.mandates:
        return await list_providers(context.database, tariffs, context.settings)
    mandates = sorted(caller.mandates)
    return await list_providers_of_member(context.database, tariffs, context.settings, mandates, user)


@api.get(
    "/api/billing/transactions/{transactionId}/explain",
    dependencies=[Depends(require_person)],
    **operation(
        "billing-explain-transaction",
        "What a transaction in the caller's scope came from: event, price, rate, markup, rounding, corrections.",
        access=Access.PERSON,
        answer=Explanation,
        refuses=(404, 422),
    ),
)
async def get_explanation(
    context: Context,
    caller: CurrentCaller,
    transaction_id: Annotated[str, Path(alias="transactionId"), WithJsonSchema({"type": "string", "format": "uuid"})],
) -> dict[str, Any]:
    return await explain_transaction(context.database, Scope.of(caller), transaction_id)


def _mandate(caller: Caller, given: str | None) -> str | None:
    """The mandate an answer is about: the one given, else the context's; None for all of the caller's."""
    if caller.service:
        caller.require_scope("usage:check")
        if given is None:
            raise MalformedParameter(
                "mandateId",
                en="a service account has to name a mandate",
                de="ein Dienstkonto muss einen Mandanten nennen",
            )
        return IdOf("mandateId").read(given)
    one = given if given is not None else caller.context_mandate
    if one is not None:
        caller.require_member(IdOf("mandateId").read(one))
    return one


def _user(caller: Caller, named: str | None) -> str:
    """Whose providers: a service account names a user, a person asks for themselves."""
    if named is not None:
        IdOf("userId").read(named)
    if not caller.service:
        return caller.user_id
    if named is None:
        raise MalformedParameter(
            "userId", en="a service account has to name a user", de="ein Dienstkonto muss eine Person nennen"
        )
    return named
