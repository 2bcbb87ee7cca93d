"""Moves what is on its way, in the transaction of whatever has happened: the directory has changed, a payment was
settled, time has passed."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.directory.v1 import DirectoryChanged, FeatureAccess, FeatureInstance
from rappen_contracts.stripe.v1 import QuantitySettled
from services.chassis.outbox import append_outbox
from services.subscriptions.lifecycle.repository import lock_occupying
from services.subscriptions.quantities.request_quantities import request_quantities
from services.subscriptions.store import repository
from services.subscriptions.store.domain import Activation, Failure, Step, instance_request, next_step
from services.subscriptions.store.publications import directory_requested, feature_activated
from services.subscriptions.store.queries import holders_of

__all__ = ["advance_mandates", "directory_has_changed", "payments_were_settled", "roll_back"]

_FAILURES: dict[str, Failure] = {"declined": "DECLINED", "unavailable": "UNAVAILABLE"}


async def directory_has_changed(
    connection: AsyncConnection, changes: Sequence[DirectoryChanged], *, now: datetime
) -> int:
    """Moves what waited for these entries; returns how much that was."""
    kinds = (FeatureInstance, FeatureAccess)
    return await advance_mandates(
        connection, {change.entry.mandate_id for change in changes if isinstance(change.entry, kinds)}, now=now
    )


async def payments_were_settled(
    connection: AsyncConnection, answers: Sequence[QuantitySettled], *, now: datetime
) -> None:
    """Finishes the activations that are paid, rolls back those that were not.

    An answer is about every payment up to its version, because quantities are absolute; one that was superseded says
    nothing: the newer one's answer will.
    """
    await repository.lock_mandates(connection, {answer.mandate_id for answer in answers})
    for answer in answers:
        if answer.outcome == "superseded":
            continue
        waiting = await repository.lock_awaiting_payment(
            connection, answer.subscription_id, up_to_version=answer.version
        )
        for activation in waiting:
            if answer.outcome == "settled":
                await _finish(connection, activation, now)
            else:
                await roll_back(connection, activation, _FAILURES[answer.outcome], now=now)


async def advance_mandates(connection: AsyncConnection, mandate_ids: Collection[str], *, now: datetime) -> int:
    """Does what is due in these mandates; returns how much was."""
    if not mandate_ids:
        return 0
    await repository.lock_mandates(connection, mandate_ids)
    done = 0
    for activation, plight in await repository.lock_open_activations(connection, mandate_ids):
        step = next_step(activation, plight, now=now)
        done += step is not Step.WAIT
        if step is Step.PAY:
            await _pay(connection, activation, now)
        elif step is Step.FINISH:
            await _finish(connection, activation, now)
            await _charge_later(connection, activation.mandate_id, activation.cause, now)
        elif step is Step.ROLL_BACK:
            await roll_back(connection, activation, "TIMED_OUT", now=now)
        elif step is Step.CLOSE:
            await repository.change_activation(connection, activation, now=now, state="ROLLED_BACK")
    return done + await _close_removals(connection, mandate_ids, now)


async def roll_back(connection: AsyncConnection, activation: Activation, failure: Failure, *, now: datetime) -> None:
    """Takes back what was begun: the instance, every access to it, and what was asked to be charged."""
    await repository.change_activation(connection, activation, now=now, state="ROLLING_BACK", failure=failure)
    instance_id, mandate_id = str(activation.instance_id), activation.mandate_id
    holders = {activation.user_id: ["admin"], **await holders_of(connection, instance_id)}
    entries: list[FeatureInstance | FeatureAccess] = [
        FeatureInstance(
            id=instance_id,
            mandate_id=mandate_id,
            feature_code=activation.feature_code,
            label=activation.label,
            enabled=False,
        ),
        *(
            FeatureAccess(instance_id=instance_id, mandate_id=mandate_id, user_id=user_id, roles=roles, enabled=False)
            for user_id, roles in sorted(holders.items())
        ),
    ]
    release = directory_requested(
        entries,
        request_id=instance_request(activation.instance_id, "release"),
        mandate_id=mandate_id,
        user_id=activation.user_id,
        cause=activation.cause,
        now=now,
    )
    await append_outbox(connection, [release])
    if activation.quantity_version is not None:
        # Absolute, so it is right whatever became of the request before, and not paid at once: nobody waits for it.
        await request_quantities(
            connection,
            subscription_id=activation.subscription_id,
            mandate_id=mandate_id,
            cause=activation.cause,
            now=now,
        )


async def _pay(connection: AsyncConnection, activation: Activation, now: datetime) -> None:
    # First the state, because the quantities count what waits for its payment.
    await repository.change_activation(connection, activation, now=now, state="BILLING")
    version = await request_quantities(
        connection,
        subscription_id=activation.subscription_id,
        mandate_id=activation.mandate_id,
        cause=activation.cause,
        now=now,
    )
    await repository.change_activation(connection, activation, now=now, quantity_version=version)


async def _finish(connection: AsyncConnection, activation: Activation, now: datetime) -> None:
    await repository.change_activation(connection, activation, now=now, state="ACTIVE")
    await append_outbox(connection, [feature_activated(activation, now=now)])


async def _close_removals(connection: AsyncConnection, mandate_ids: Collection[str], now: datetime) -> int:
    applied = [removal for removal in await repository.open_removals(connection, mandate_ids) if removal.applied]
    await repository.close_removals(connection, [removal.id for removal in applied], now=now)
    for mandate_id, cause in {
        removal.mandate_id: removal.cause for removal in applied if removal.instance_removed
    }.items():
        await _charge_later(connection, mandate_id, cause, now)
    return len(applied)


async def _charge_later(connection: AsyncConnection, mandate_id: str, cause: str, now: datetime) -> None:
    """Brings the quantities of a plan that is charged at Stripe into step, whenever Stripe has time for it."""
    subscription = await lock_occupying(connection, mandate_id)
    if subscription is not None and subscription.plan.requires_stripe:
        await request_quantities(
            connection, subscription_id=subscription.id, mandate_id=mandate_id, cause=cause, now=now
        )
