"""/api/store: mandates, subscription, features; activate and deactivate."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID, uuid5

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import WithJsonSchema

from rappen_contracts.types import Identifier
from services.chassis.bodies import IDENTIFIER_SCHEMA
from services.chassis.caller import CurrentCaller, require_person
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.exact_json import ExactJsonResponse, ExactJsonRoute
from services.chassis.operations import Repeat, operation
from services.chassis.requests import request_id_of
from services.chassis.state import of_state
from services.subscriptions.store import bodies
from services.subscriptions.store.activate_feature import ActivateFeature
from services.subscriptions.store.catalogue import Features
from services.subscriptions.store.create_personal_mandate import OfferedMandates
from services.subscriptions.store.deactivate_feature import DeactivateFeature
from services.subscriptions.store.list_features import FeatureView, Standing, list_features
from services.subscriptions.store.queries import Instance
from services.subscriptions.store.subscription_info import StateNames, subscription_info

__all__ = ["StoreContext", "api"]

CHANGES = 10
_KEYED = UUID("d6a3c7be-0c3b-4a55-8c0b-6f6f1f8f7a10")


@dataclass(frozen=True, slots=True)
class StoreContext:
    """The objects that the routes use; the application has them as `state.store`."""

    database: Database
    features: Features
    offered_mandates: OfferedMandates
    activate: ActivateFeature
    deactivate: DeactivateFeature
    state_names: StateNames
    clock: Clock


Store = Annotated[StoreContext, of_state("store")]
MandateId = Annotated[Identifier | None, Query(alias="mandateId"), WithJsonSchema(IDENTIFIER_SCHEMA)]
# The gateway sends it with every change that can be repeated, and documents it there.
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255, include_in_schema=False)]

api = APIRouter(prefix="/api/store", route_class=ExactJsonRoute, dependencies=[Depends(require_person)])


@api.get(
    "/mandates",
    **operation(
        "store-list-mandates",
        "The mandates in which the caller may activate features; a personal one for who never had any.",
        answer=list[bodies.OfferedMandate],
        refuses=(503,),
    ),
)
async def get_mandates(store: Store, caller: CurrentCaller, request: Request) -> ExactJsonResponse:
    offered = await store.offered_mandates(caller, cause=request_id_of(request))
    return ExactJsonResponse([{"id": each.id, "name": each.name, "label": each.label} for each in offered])


@api.get(
    "/subscription-info",
    **operation(
        "store-get-subscription-info",
        "The subscription of a mandate, or of the first one that the caller administers.",
        answer=bodies.SubscriptionInfo,
        refuses=(404, 422),
    ),
)
async def get_subscription_info(store: Store, caller: CurrentCaller, mandate_id: MandateId = None) -> ExactJsonResponse:
    return ExactJsonResponse(await subscription_info(store.database, caller, mandate_id, store.state_names))


@api.get(
    "/features",
    **operation(
        "store-list-features",
        "The features of the store, with the caller's instances and where one more may be activated.",
        answer=list[bodies.StoreFeature],
    ),
)
async def get_features(store: Store, caller: CurrentCaller) -> ExactJsonResponse:
    views, standings = await list_features(store.database, store.features, caller, now=store.clock())
    return ExactJsonResponse([_feature(view, standings) for view in views])


@api.post(
    "/activate",
    **operation(
        "store-activate",
        "Activate one more instance of a feature.",
        limit=CHANGES,
        repeat=Repeat.KEY,
        answer=bodies.Activated,
        refuses=(400, 402, 404, 413, 415, 422, 503),
    ),
)
async def post_activate(
    store: Store,
    *,
    caller: CurrentCaller,
    body: bodies.ActivateFeature,
    request: Request,
    key: IdempotencyKey = None,
) -> ExactJsonResponse:
    feature_code, mandate_id = body.feature_code, body.mandate_id
    request_key = None if key is None else uuid5(_KEYED, f"{mandate_id}/{caller.user_id}/{key}")
    instance_id = await store.activate(
        caller,
        feature_code=feature_code,
        mandate_id=mandate_id,
        request_key=request_key,
        cause=request_id_of(request),
    )
    named = {"featureCode": feature_code, "mandateId": mandate_id, "instanceId": str(instance_id)}
    return ExactJsonResponse({**named, "activated": True})


@api.post(
    "/deactivate",
    **operation(
        "store-deactivate",
        "Give up the access to a feature instance; with the last access the instance goes.",
        limit=CHANGES,
        repeat=Repeat.LOOK,
        answer=bodies.Deactivated,
        refuses=(400, 404, 413, 415, 422),
    ),
)
async def post_deactivate(
    store: Store, *, caller: CurrentCaller, body: bodies.DeactivateFeature, request: Request
) -> ExactJsonResponse:
    named = {"featureCode": body.feature_code, "mandateId": body.mandate_id, "instanceId": body.instance_id}
    removed = await store.deactivate(
        caller,
        feature_code=body.feature_code,
        mandate_id=body.mandate_id,
        instance_id=body.instance_id,
        cause=request_id_of(request),
    )
    return ExactJsonResponse({**named, "deactivated": True, "instanceDeleted": removed})


def _feature(view: FeatureView, standings: list[Standing]) -> dict[str, Any]:
    feature = view.feature
    return {
        "featureCode": feature.code,
        "label": {"en": feature.label["en"], "de": feature.label["de"]},
        "icon": feature.icon,
        "description": dict(feature.description),
        "instances": [_instance(instance) for instance in view.instances],
        "canActivate": any(standing.reason is None for standing in standings),
        "activatable": [
            {"mandateId": standing.mandate_id, "allowed": standing.reason is None, "reason": standing.reason}
            for standing in standings
        ],
    }


def _instance(instance: Instance) -> dict[str, Any]:
    return {
        "instanceId": instance.id,
        "mandateId": instance.mandate_id,
        "mandateName": instance.mandate_name,
        "label": instance.label or instance.feature_code,
        "isActive": True,
    }
