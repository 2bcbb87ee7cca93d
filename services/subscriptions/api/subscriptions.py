"""GET and POST /api/subscriptions/{mandateId}."""

from typing import Annotated, Any
from uuid import UUID, uuid4, uuid5

from fastapi import APIRouter, Depends, Header, Request
from pydantic import BaseModel, ConfigDict, Field

from services.chassis.caller import Caller, CallerVerifier
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.exact_json import ExactJsonResponse, ExactJsonRoute
from services.chassis.problems import request_id_of
from services.chassis.readers import Readers
from services.subscriptions.catalogue import Catalogue
from services.subscriptions.domain.subscription import Subscription
from services.subscriptions.queries import MandateView, require_known, view_of_mandate
from services.subscriptions.use_cases.start_plan import start_plan

__all__ = ["build"]

TOPIC = "subscription.changed"
_KEYED = UUID("5b0a2f2e-7f1c-4d0e-9a55-3b1e6a0c8f47")


class PlanStart(BaseModel):
    """Which plan to start, and where a checkout returns to; a plan that needs none returns nowhere."""

    model_config = ConfigDict(strict=True, extra="ignore")

    plan_key: str = Field(alias="planKey", min_length=1, max_length=64)
    return_url: str | None = Field(alias="returnUrl", default=None, max_length=2048)


def build(
    *, database: Database, catalogue: Catalogue, caller: CallerVerifier, readers: Readers, clock: Clock
) -> APIRouter:
    """A mandate's subscription, to its members; a change of it, to its admins."""
    router = APIRouter(route_class=ExactJsonRoute)
    Person = Annotated[Caller, Depends(caller)]

    # Both are dependencies because those are settled before anything in the body is looked at.
    async def member(mandate_id: str, person: Person) -> Caller:
        person.require_member(mandate_id)
        async with database.reading() as connection:
            await require_known(connection, person, mandate_id)
        return person

    async def admin(mandate_id: str, person: Person) -> Caller:
        person.require_admin(mandate_id)
        return await member(mandate_id, person)

    @router.get("/{mandate_id}")
    async def read(mandate_id: str, person: Annotated[Caller, Depends(member)]) -> ExactJsonResponse:
        async with database.reading() as connection:
            return ExactJsonResponse(_form(await view_of_mandate(connection, person, mandate_id)))

    @router.post("/{mandate_id}")
    async def start(
        mandate_id: str,
        plan: PlanStart,
        person: Annotated[Caller, Depends(admin)],
        request: Request,
        key: Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)] = None,
    ) -> ExactJsonResponse:
        await start_plan(
            database,
            catalogue,
            caller=person,
            mandate_id=mandate_id,
            plan_key=plan.plan_key,
            subscription_id=_subscription_id(mandate_id, person, key),
            cause=request_id_of(request),
            now=clock(),
        )
        await readers.caught_up(TOPIC)
        async with database.reading() as connection:
            view = await view_of_mandate(connection, person, mandate_id)
        return ExactJsonResponse({"redirectUrl": None, "subscription": _form(view)})

    return router


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
