"""A mandate's subscription: what it is, starting, changing, cancelling and resuming a plan; /internal/member-limit."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID, uuid4, uuid5

from fastapi import APIRouter, Depends, Header, Path, Request
from pydantic import WithJsonSchema

from services.chassis.bodies import IDENTIFIER_SCHEMA
from services.chassis.caller import Caller, CurrentCaller
from services.chassis.clock import Clock
from services.chassis.consumer_progress import ConsumerProgress
from services.chassis.database import Database
from services.chassis.exact_json import ExactJsonResponse, ExactJsonRoute
from services.chassis.operations import CHANGES_PER_MINUTE, Access, Repeat, operation
from services.chassis.requests import request_id_of
from services.chassis.state import of_state
from services.subscriptions.directory.queries import require_known
from services.subscriptions.lifecycle.bodies import Started, StartSubscription, SubscriptionAnswer
from services.subscriptions.lifecycle.change_end import ChangeEnd
from services.subscriptions.lifecycle.domain import Subscription
from services.subscriptions.lifecycle.queries import MandateView, member_limit, view_of_mandate
from services.subscriptions.lifecycle.start_checkout import CheckoutOrder, StartCheckout
from services.subscriptions.lifecycle.start_plan import require_startable, start_plan
from services.subscriptions.plans.catalogue import Catalogue

__all__ = ["LifecycleContext", "api", "internal"]

TOPIC = "subscription.changed"
_KEYED = UUID("5b0a2f2e-7f1c-4d0e-9a55-3b1e6a0c8f47")


@dataclass(frozen=True, slots=True)
class LifecycleContext:
    """The objects that the routes use; the application has them as `state.lifecycle`."""

    database: Database
    catalogue: Catalogue
    consumer_progress: ConsumerProgress
    clock: Clock
    start_checkout: StartCheckout
    change_end: ChangeEnd


Context = Annotated[LifecycleContext, of_state("lifecycle")]
MandateId = Annotated[str, Path(alias="mandateId"), WithJsonSchema(IDENTIFIER_SCHEMA)]
# The gateway sends it with every change that can be repeated, and documents it there.
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255, include_in_schema=False)]

api = APIRouter(route_class=ExactJsonRoute)
# Of no public path.
internal = APIRouter(route_class=ExactJsonRoute)


async def _require_member(context: Context, caller: CurrentCaller, mandate_id: MandateId) -> None:
    """FastAPI dependency for routes of a mandate's members: checked before the body is read."""
    caller.require_member(mandate_id)
    await require_known(context.database, caller, mandate_id)


async def _require_admin(context: Context, caller: CurrentCaller, mandate_id: MandateId) -> None:
    """FastAPI dependency for routes of a mandate's administrators: checked before the body is read."""
    caller.require_admin(mandate_id)
    await _require_member(context, caller, mandate_id)


@internal.get("/internal/member-limit/{mandateId}", dependencies=[Depends(_require_admin)])
async def get_member_limit(context: Context, caller: CurrentCaller, mandate_id: MandateId) -> ExactJsonResponse:
    """How many members the mandate may have; the gateway asks before an administrator of it adds one."""
    limit = await member_limit(context.database, caller, mandate_id, now=context.clock())
    return ExactJsonResponse({"maxUsers": limit})


@api.get(
    "/{mandateId}",
    dependencies=[Depends(_require_member)],
    **operation(
        "subscriptions-get",
        "A mandate's subscription.",
        access=Access.MEMBER,
        answer=SubscriptionAnswer,
        refuses=(404, 422),
    ),
)
async def get_subscription(context: Context, caller: CurrentCaller, mandate_id: MandateId) -> ExactJsonResponse:
    return ExactJsonResponse(_form(await view_of_mandate(context.database, caller, mandate_id)))


@api.post(
    "/{mandateId}",
    dependencies=[Depends(_require_admin)],
    **operation(
        "subscriptions-start",
        "Start a plan, or change to it.",
        access=Access.MANDATE_ADMIN,
        limit=CHANGES_PER_MINUTE,
        repeat=Repeat.KEY,
        answer=Started,
        refuses=(400, 402, 404, 409, 413, 415, 422),
    ),
)
async def post_subscription(
    context: Context,
    *,
    caller: CurrentCaller,
    mandate_id: MandateId,
    body: StartSubscription,
    request: Request,
    key: IdempotencyKey = None,
) -> ExactJsonResponse:
    plan = require_startable(context.catalogue, caller, mandate_id, body.plan_key)
    subscription_id, cause = _subscription_id(mandate_id, caller, key), request_id_of(request)
    redirect_url = None
    if plan.requires_stripe:
        order = CheckoutOrder(caller, mandate_id, plan, subscription_id, body.return_url, cause)
        redirect_url = await context.start_checkout(order)
    else:
        await start_plan(
            context.database,
            context.catalogue,
            caller=caller,
            mandate_id=mandate_id,
            plan_key=plan.key,
            subscription_id=subscription_id,
            cause=cause,
            now=context.clock(),
        )
        await context.consumer_progress.caught_up(TOPIC)
    view = await view_of_mandate(context.database, caller, mandate_id)
    return ExactJsonResponse({"redirectUrl": redirect_url, "subscription": _form(view)})


@api.post(
    "/{mandateId}/cancel",
    dependencies=[Depends(_require_admin)],
    **operation(
        "subscriptions-cancel",
        "Let the subscription end with its period.",
        access=Access.MANDATE_ADMIN,
        limit=CHANGES_PER_MINUTE,
        repeat=Repeat.SAME,
        answer=SubscriptionAnswer,
        refuses=(404, 409, 422),
    ),
)
async def post_cancel(
    context: Context, caller: CurrentCaller, mandate_id: MandateId, request: Request
) -> ExactJsonResponse:
    await context.change_end.cancel(caller, mandate_id, cause=request_id_of(request))
    return ExactJsonResponse(_form(await view_of_mandate(context.database, caller, mandate_id)))


@api.post(
    "/{mandateId}/resume",
    dependencies=[Depends(_require_admin)],
    **operation(
        "subscriptions-resume",
        "Take back that the subscription is to end.",
        access=Access.MANDATE_ADMIN,
        limit=CHANGES_PER_MINUTE,
        repeat=Repeat.SAME,
        answer=SubscriptionAnswer,
        refuses=(404, 409, 422),
    ),
)
async def post_resume(
    context: Context, caller: CurrentCaller, mandate_id: MandateId, request: Request
) -> ExactJsonResponse:
    await context.change_end.resume(caller, mandate_id, cause=request_id_of(request))
    return ExactJsonResponse(_form(await view_of_mandate(context.database, caller, mandate_id)))


def _subscription_id(mandate_id: str, person: Caller, key: str | None) -> UUID:
    """The id of what a request starts, which a repeat with its key finds again."""
    return uuid4() if key is None else uuid5(_KEYED, f"{mandate_id}/{person.user_id}/{key}")


def _form(view: MandateView) -> dict[str, Any]:
    """The current subscription, with the one that waits inside it."""
    return {
        **_one(view.current, view),
        "scheduled": None if view.scheduled is None else _one(view.scheduled, view),
    }


def _one(subscription: Subscription | None, view: MandateView) -> dict[str, Any]:
    """Every name always, null where there is no subscription."""
    if subscription is None:
        return dict.fromkeys(_NAMES)
    period = subscription.period
    values = (
        subscription.id,
        subscription.mandate_id,
        subscription.plan.key,
        subscription.state,
        subscription.recurring,
        period.start if period else None,
        period.end if period else None,
        subscription.effective_from,
        subscription.trial_ends_at,
        {"members": view.members, "featureInstances": view.feature_instances},
    )
    return dict(zip(_NAMES, values, strict=True))


_NAMES = (
    "id",
    "mandateId",
    "planKey",
    "status",
    "recurring",
    "currentPeriodStart",
    "currentPeriodEnd",
    "effectiveFrom",
    "trialEndsAt",
    "quantities",
)
