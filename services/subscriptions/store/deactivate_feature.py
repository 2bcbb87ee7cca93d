"""Removes the caller's access to a feature instance, and with the last access the instance."""

from uuid import UUID, uuid4

from rappen_contracts.directory.v1 import FeatureAccess, FeatureInstance
from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.outbox import append_outbox
from services.subscriptions.lifecycle.await_stripe import until
from services.subscriptions.store import queries, repository
from services.subscriptions.store.advance_activations import OUTCOMES
from services.subscriptions.store.domain import removal_request
from services.subscriptions.store.errors import InstanceUnknown
from services.subscriptions.store.publications import directory_requested

__all__ = ["DeactivateFeature"]


class DeactivateFeature:
    """Begins a removal and waits until the directory has it; it is never taken back, however long that takes."""

    def __init__(self, database: Database, *, clock: Clock, faults: FaultPoints, wait_s: float) -> None:
        self._database = database
        self._clock = clock
        self._faults = faults
        self._wait_s = wait_s

    async def __call__(
        self, caller: Caller, *, feature_code: str, mandate_id: str, instance_id: str, cause: str
    ) -> bool:
        """Whether the instance was removed with the caller's access."""
        removal_id, instance_removed = await self._begin(caller, feature_code, mandate_id, instance_id, cause)
        self._faults.reach("store_removal_begun")

        async def removed() -> bool | None:
            return await queries.is_removed(self._database, removal_id) or None

        # A courtesy: the removal is decided and arrives, so the answer is true also where it has not yet.
        await until(removed, timeout_s=self._wait_s, notice=self._database.notice(OUTCOMES))
        return instance_removed

    async def _begin(
        self, caller: Caller, feature_code: str, mandate_id: str, instance_id: str, cause: str
    ) -> tuple[UUID, bool]:
        now, removal_id = self._clock(), uuid4()
        async with self._database.transaction() as connection:
            await repository.lock_mandates(connection, [mandate_id])
            found = await queries.instances_of(connection, caller.user_id, instance_id=instance_id)
            if not found or (found[0].mandate_id, found[0].feature_code) != (mandate_id, feature_code):
                raise InstanceUnknown
            (instance,) = found
            others = (await queries.holders_of(connection, instance_id)).keys() - {caller.user_id}
            await repository.add_removal(
                connection,
                removal_id=removal_id,
                instance_id=instance_id,
                mandate_id=mandate_id,
                user_id=caller.user_id,
                instance_removed=not others,
                cause=cause,
                now=now,
            )
            entries: list[FeatureAccess | FeatureInstance] = [
                FeatureAccess(
                    instance_id=instance_id,
                    mandate_id=mandate_id,
                    user_id=caller.user_id,
                    roles=instance.roles,
                    enabled=False,
                )
            ]
            if not others:
                entries.append(
                    FeatureInstance(
                        id=instance_id,
                        mandate_id=mandate_id,
                        feature_code=feature_code,
                        label=instance.label,
                        enabled=False,
                    )
                )
            request = directory_requested(
                entries,
                request_id=removal_request(removal_id),
                mandate_id=mandate_id,
                user_id=caller.user_id,
                cause=cause,
                now=now,
            )
            await append_outbox(connection, [request])
        return removal_id, not others
