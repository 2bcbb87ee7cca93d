"""Activates a feature in a mandate: a new instance, which counts towards the limit before it exists."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.directory.v1 import FeatureAccess, FeatureInstance
from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.outbox import OutboxRow, append_outbox
from services.chassis.problems import IdempotencyMismatch
from services.subscriptions.lifecycle.await_stripe import until
from services.subscriptions.lifecycle.domain import Subscription
from services.subscriptions.lifecycle.queries import operative_of
from services.subscriptions.quantities.queries import complete_at_stripe
from services.subscriptions.store import queries, repository
from services.subscriptions.store.advance_activations import OUTCOMES, roll_back
from services.subscriptions.store.catalogue import Features
from services.subscriptions.store.domain import Activation, Feature, instance_request, reason_against
from services.subscriptions.store.errors import REFUSALS, ActivationUnavailable, NotAdministered, PaymentDeclined
from services.subscriptions.store.publications import directory_requested

__all__ = ["ActivateFeature"]

# The directory's role of who administers an instance.
ADMIN = "admin"


class ActivateFeature:
    """Begins an activation and waits for its outcome; what is not done in time is rolled back."""

    def __init__(
        self, database: Database, features: Features, *, clock: Clock, faults: FaultPoints, wait_s: float
    ) -> None:
        self._database = database
        self._features = features
        self._clock = clock
        self._faults = faults
        self._wait_s = wait_s

    async def __call__(
        self, caller: Caller, *, feature_code: str, mandate_id: str, request_key: UUID | None, cause: str
    ) -> UUID:
        """The id of the instance, which may be used now. A repeat with its key gives the first one's."""
        feature = self._features.in_store(feature_code)
        instance_id = await self._begin(caller, feature, mandate_id, request_key, cause)
        self._faults.reach("store_activation_begun")

        async def outcome() -> tuple[str, str | None] | None:
            state, failure = await queries.activation_state(self._database, instance_id)
            return (state, failure) if state in ("ACTIVE", "ROLLING_BACK", "ROLLED_BACK") else None

        # It is rolled back at its deadline by whoever sees it first: this request, or recovery.
        found = await until(outcome, timeout_s=self._wait_s, notice=self._database.notice(OUTCOMES))
        state, failure = found or await self._give_up(mandate_id, instance_id)
        if state == "ACTIVE":
            return instance_id
        raise PaymentDeclined if failure == "DECLINED" else ActivationUnavailable(headers={"Retry-After": "1"})

    async def _begin(
        self, caller: Caller, feature: Feature, mandate_id: str, request_key: UUID | None, cause: str
    ) -> UUID:
        if not caller.mandates.get(mandate_id, False):
            raise NotAdministered
        now = self._clock()
        async with self._database.transaction() as connection:
            await repository.lock_mandates(connection, [mandate_id])
            begun = await _begun(connection, feature, request_key)
            if begun is not None:
                return begun
            subscription = await self._allowed(connection, mandate_id, now)
            activation = self._activation(caller, feature, subscription, cause, now)
            await repository.add_activation(connection, activation, request_key=request_key, now=now)
            await append_outbox(connection, [_provisioning(activation, now)])
            self._faults.reach("store_activation_before_commit")
        return activation.instance_id

    async def _allowed(self, connection: AsyncConnection, mandate_id: str, now: datetime) -> Subscription:
        """The operative subscription under which one more instance is allowed."""
        known = await queries.mandates_known(connection, [mandate_id])
        subscription = (await operative_of(connection, [mandate_id], now=now)).get(mandate_id)
        charged = subscription is not None and subscription.plan.requires_stripe
        complete = [] if subscription is None else await complete_at_stripe(connection, [subscription.id])
        reason = reason_against(
            administers=mandate_id in known and known[mandate_id].enabled and not known[mandate_id].is_system,
            operative=subscription is not None,
            stripe_complete=not charged or bool(complete),
            limit=None if subscription is None else subscription.plan.max_feature_instances,
            in_use=(await queries.instances_in_use(connection, [mandate_id]))[mandate_id],
        )
        if reason is not None or subscription is None:
            raise REFUSALS[reason or "NO_SUBSCRIPTION"]
        return subscription

    def _activation(
        self, caller: Caller, feature: Feature, subscription: Subscription, cause: str, now: datetime
    ) -> Activation:
        plan = subscription.plan
        return Activation(
            instance_id=uuid4(),
            mandate_id=subscription.mandate_id,
            user_id=caller.user_id,
            feature_code=feature.code,
            label_de=feature.label["de"],
            label_en=feature.label["en"],
            subscription_id=subscription.id,
            price=plan.price_per_feature_instance,
            billing_period=plan.billing_period,
            paid_at_once=plan.requires_stripe and plan.price_per_feature_instance > 0,
            state="PROVISIONING",
            failure=None,
            quantity_version=None,
            language=caller.language,
            cause=cause,
            deadline_at=now + timedelta(seconds=self._wait_s),
        )

    async def _give_up(self, mandate_id: str, instance_id: UUID) -> tuple[str, str | None]:
        """Rolls back what nobody waits for any more, unless it has come to its end meanwhile."""
        async with self._database.transaction() as connection:
            await repository.lock_mandates(connection, [mandate_id])
            activation = await repository.lock_activation(connection, instance_id)
            if activation.state in ("PROVISIONING", "BILLING"):
                await roll_back(connection, activation, "TIMED_OUT", now=self._clock())
                return "ROLLING_BACK", "TIMED_OUT"
            return activation.state, activation.failure


async def _begun(connection: AsyncConnection, feature: Feature, request_key: UUID | None) -> UUID | None:
    """The instance that the same request has begun; its key with another feature is no repeat."""
    if request_key is None:
        return None
    begun = await repository.activation_of_key(connection, request_key)
    if begun is not None and begun.feature_code != feature.code:
        raise IdempotencyMismatch
    return None if begun is None else begun.instance_id


def _provisioning(activation: Activation, now: datetime) -> OutboxRow:
    instance_id, mandate_id = str(activation.instance_id), activation.mandate_id
    return directory_requested(
        [
            FeatureInstance(
                id=instance_id,
                mandate_id=mandate_id,
                feature_code=activation.feature_code,
                label=activation.label,
            ),
            FeatureAccess(instance_id=instance_id, mandate_id=mandate_id, user_id=activation.user_id, roles=[ADMIN]),
        ],
        request_id=instance_request(activation.instance_id, "provision"),
        mandate_id=mandate_id,
        user_id=activation.user_id,
        cause=activation.cause,
        now=now,
    )
