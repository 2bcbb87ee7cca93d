"""Moves what is on its way, in the transaction of whatever has happened: the directory has changed, a payment was
settled, time has passed."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.directory.v1 import DirectoryChanged, FeatureAccess, FeatureInstance
from rappen_contracts.stripe.v1 import QuantitySettled
from services.chassis.database import announce
from services.chassis.outbox import append_outbox
from services.subscriptions.quantities.domain import KeptInStep
from services.subscriptions.quantities.repository import hold_quantities, in_use, lock_kept, look_at_mandates
from services.subscriptions.quantities.request_quantities import ask_for
from services.subscriptions.store import repository
from services.subscriptions.store.domain import Activation, Failure, Step, instance_request, is_applied, next_step
from services.subscriptions.store.publications import ENTRIES_MAX, directory_requested, feature_activated
from services.subscriptions.store.queries import holders_of

__all__ = ["OUTCOMES", "advance_mandates", "payments_were_settled", "roll_back"]

# The notice that an activation or a removal has come to its outcome, for which its request waits.
OUTCOMES = "outcomes"
_FAILURES: Mapping[str, Failure] = {"declined": "DECLINED", "unavailable": "UNAVAILABLE"}


async def payments_were_settled(
    connection: AsyncConnection, answers: Sequence[QuantitySettled], *, now: datetime
) -> int:
    """Finishes the activations that are paid, rolls back those that were not; returns how many.

    An answer is about every payment up to its version, because quantities are absolute; one that was superseded says
    nothing: the newer one's answer will.
    """
    open_ = await repository.with_open_work(connection, {answer.mandate_id for answer in answers})
    await repository.lock_mandates(connection, open_)
    done = 0
    for answer in answers:
        if answer.outcome == "superseded" or answer.mandate_id not in open_:
            continue
        waiting = await repository.lock_awaiting_payment(
            connection, answer.subscription_id, up_to_version=answer.version
        )
        done += len(waiting)
        for activation in waiting:
            if answer.outcome == "settled":
                await _finish(connection, activation, now)
            else:
                await roll_back(connection, activation, _FAILURES[answer.outcome], now=now)
    return done


async def advance_mandates(
    connection: AsyncConnection,
    mandate_ids: Collection[str],
    *,
    changes: Sequence[DirectoryChanged] = (),
    now: datetime,
) -> int:
    """Does what is due in these mandates, of which the directory has just told these changes; returns how much was."""
    open_ = await repository.with_open_work(connection, mandate_ids)
    if not open_:
        return 0
    await repository.lock_mandates(connection, open_)
    done = 0
    for activation, plight in await repository.lock_open_activations(connection, open_):
        step = next_step(activation, plight, now=now)
        done += step not in (Step.WAIT, Step.RELEASE)
        if step is Step.PAY:
            await _pay(connection, activation, now)
        elif step is Step.FINISH:
            await _finish(connection, activation, now)
        elif step is Step.ROLL_BACK:
            await roll_back(connection, activation, "TIMED_OUT", now=now)
        elif step is Step.RELEASE:
            # Somebody was given access while it was taken back. It is asked once for each such state.
            left = await holders_of(connection, str(activation.instance_id))
            await _release(connection, activation, _accesses(activation, left), f"release of {plight.left}", now)
        elif step is Step.CLOSE:
            await repository.change_activation(connection, activation, now=now, state="ROLLED_BACK")
    told = {(change.cause, change.entry.kind) for change in changes}
    removals = await repository.open_removals(connection, open_)
    applied = [removal for removal in removals if is_applied(removal, told)]
    await repository.close_removals(connection, [removal.id for removal in applied], now=now)
    if applied:
        announce(connection, OUTCOMES)
    done += len(applied)
    if done:
        # What costs nothing at once, and what is gone, is brought into step whenever Stripe has time.
        await look_at_mandates(connection, open_, now=now)
    return done


async def roll_back(connection: AsyncConnection, activation: Activation, failure: Failure, *, now: datetime) -> None:
    """Takes back what was begun: the instance, every access to it, and what was asked to be charged."""
    announce(connection, OUTCOMES)
    await repository.change_activation(connection, activation, now=now, state="ROLLING_BACK", failure=failure)
    instance = FeatureInstance(
        id=str(activation.instance_id),
        mandate_id=activation.mandate_id,
        feature_code=activation.feature_code,
        label=activation.label,
        enabled=False,
    )
    holders = {activation.user_id: ["admin"], **await holders_of(connection, instance.id)}
    await _release(connection, activation, [instance, *_accesses(activation, holders)], "release", now)
    if activation.quantity_version is not None:
        kept = await lock_kept(connection, activation.subscription_id)
        if kept is not None:
            # Absolute, so it is right whatever became of the request before.
            await _ask(connection, activation, kept, now)


async def _release(
    connection: AsyncConnection,
    activation: Activation,
    entries: Sequence[FeatureInstance | FeatureAccess],
    step: str,
    now: datetime,
) -> None:
    """Asks the directory for disabled entries, in as many requests as they fill."""
    parts = [entries[first : first + ENTRIES_MAX] for first in range(0, len(entries), ENTRIES_MAX)]
    requests = [
        directory_requested(
            part,
            request_id=instance_request(activation.instance_id, f"{step}/{number}" if number else step),
            mandate_id=activation.mandate_id,
            user_id=activation.user_id,
            cause=activation.cause,
            now=now,
        )
        for number, part in enumerate(parts)
    ]
    await append_outbox(connection, requests)


def _accesses(activation: Activation, holders: Mapping[str, Sequence[str]]) -> list[FeatureAccess]:
    return [
        FeatureAccess(
            instance_id=str(activation.instance_id),
            mandate_id=activation.mandate_id,
            user_id=user_id,
            roles=list(roles),
            enabled=False,
        )
        for user_id, roles in sorted(holders.items())
    ]


async def _pay(connection: AsyncConnection, activation: Activation, now: datetime) -> None:
    kept = await lock_kept(connection, activation.subscription_id)
    if kept is None:
        # The subscription has ended since.
        await roll_back(connection, activation, "UNAVAILABLE", now=now)
        return
    # First the state, because the quantities count what waits for its payment.
    await repository.change_activation(
        connection, activation, now=now, state="BILLING", quantity_version=kept.version + 1
    )
    await _ask(connection, activation, kept, now)


async def _finish(connection: AsyncConnection, activation: Activation, now: datetime) -> None:
    announce(connection, OUTCOMES)
    await repository.change_activation(connection, activation, now=now, state="ACTIVE")
    await append_outbox(connection, [feature_activated(activation, now=now)])


async def _ask(connection: AsyncConnection, activation: Activation, kept: KeptInStep, now: datetime) -> None:
    """Asks for what the mandate uses now, by the next version of what is kept in step.

    While an activation waits for its payment, each request is one that is paid at once: it takes the place of the one
    before, and would let the activation pass unpaid. So nobody else asks meanwhile.
    """
    until = await repository.waited_until(connection, kept.subscription_id)
    await ask_for(
        connection,
        kept,
        await in_use(connection, activation.mandate_id),
        paid_at_once=until is not None,
        expires_at=until,
        cause=activation.cause,
        now=now,
    )
    await hold_quantities(connection, kept.subscription_id, until=until)
