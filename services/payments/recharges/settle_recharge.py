"""Settles a recharge by its payment as Stripe has it: the one way for the request and for the events that follow."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Self
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.payment.v1 import PaymentFailed
from rappen_contracts.registry import PAYMENT_FAILED_V1
from rappen_contracts.types import NonNegativeMoney
from services.chassis.outbox import append_outbox, outbox_row
from services.chassis.validation import say
from services.payments.checkouts.domain import RECHARGE, Payment, received_of_intent
from services.payments.checkouts.record_payment import record_payment, report_payment
from services.payments.recharges.domain import (
    RECHARGE_TEXT,
    Recharge,
    RechargeState,
    observed_state,
    recharge_id_in,
)
from services.payments.recharges.repository import lock_recharge, lock_recharge_of, save_recharge
from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.objects import PaymentIntent
from services.payments.stripe.payment_intents import read_intent

__all__ = ["ObservedRecharge", "RechargeSettlement", "fail_recharge", "settle_recharge"]

_NAMESPACE = UUID("1e6a2b8c-4f57-5c0d-a3e9-7b8d6c5f4a21")
LANGUAGE = "en"


@dataclass(frozen=True, slots=True)
class RechargeSettlement:
    """What became of a recharge; `payment` is the one that is new."""

    state: RechargeState
    payment: Payment | None

    @property
    def outcome(self) -> str:
        """In a word, as of top-ups."""
        if self.payment is not None:
            return "CREDITED"
        return "ALREADY_CREDITED" if self.state is RechargeState.SUCCEEDED else self.state.value

    def report(self) -> None:
        """Counts and logs what was credited; called after the commit."""
        if self.payment is not None:
            report_payment(self.payment)


async def settle_recharge(
    connection: AsyncConnection, recharge: Recharge, intent: PaymentIntent, *, cause: str, now: datetime
) -> RechargeSettlement:
    """Brings our books to a payment, in the caller's transaction, which holds the recharge."""
    received = received_of_intent(intent)
    if received is not None and received.amount > 0:
        payment = _payment(recharge, intent, received.paid_at, cause=cause, now=now)
        recorded, new = await record_payment(connection, payment)
        if recharge.state != RechargeState.SUCCEEDED:
            await save_recharge(
                connection,
                recharge.recharge_id,
                RechargeState.SUCCEEDED,
                intent_id=intent.id,
                decline_code=None,
                now=now,
            )
        return RechargeSettlement(RechargeState.SUCCEEDED, recorded if new else None)
    state = observed_state(intent)
    if state is RechargeState.PROCESSING:
        if recharge.state == RechargeState.CHARGING:
            await save_recharge(
                connection, recharge.recharge_id, state, intent_id=intent.id, decline_code=None, now=now
            )
        return RechargeSettlement(state, None)
    return await fail_recharge(
        connection, recharge, state, decline_code=intent.decline_code, intent_id=intent.id, cause=cause, now=now
    )


async def fail_recharge(
    connection: AsyncConnection,
    recharge: Recharge,
    state: RechargeState,
    *,
    decline_code: str | None,
    intent_id: str | None,
    action_url: str | None = None,
    cause: str,
    now: datetime,
) -> RechargeSettlement:
    """Notes that it was declined or has to be confirmed, and publishes it, once; what succeeded stays so."""
    if recharge.state not in (RechargeState.CHARGING, RechargeState.PROCESSING):
        return RechargeSettlement(RechargeState(recharge.state), None)
    await save_recharge(
        connection, recharge.recharge_id, state, intent_id=intent_id, decline_code=decline_code, now=now
    )
    data = PaymentFailed(
        mandate_id=recharge.mandate_id,
        user_id=recharge.user_id,
        amount=NonNegativeMoney(amount=recharge.amount, currency=recharge.currency),
        reason=RECHARGE,
        outcome="action_required" if state is RechargeState.ACTION_REQUIRED else "declined",
        reference=intent_id or str(recharge.recharge_id),
        recharge_id=recharge.recharge_id,
        stripe_payment_intent_id=intent_id,
        decline_code=decline_code,
        action_url=action_url,
        failed_at=now,
        cause=cause,
    )
    event_id = uuid5(_NAMESPACE, f"{recharge.recharge_id}/failed")
    row = outbox_row(PAYMENT_FAILED_V1, data, event_id=event_id, occurred_at=now, key=recharge.mandate_id)
    await append_outbox(connection, [row])
    return RechargeSettlement(state, None)


def _payment(recharge: Recharge, intent: PaymentIntent, paid_at: datetime, *, cause: str, now: datetime) -> Payment:
    asked: tuple[Decimal, str] = (recharge.amount, recharge.currency)
    return Payment(
        event_id=uuid5(_NAMESPACE, intent.id),
        reason=RECHARGE,
        mandate_id=recharge.mandate_id,
        user_id=recharge.user_id,
        created_by_user_id=None,
        amount=intent.amount_received,
        currency=intent.currency,
        requested_amount=recharge.amount,
        requested_currency=recharge.currency,
        mismatch=(intent.amount_received, intent.currency) != asked,
        checkout_id=None,
        stripe_session_id=None,
        stripe_payment_intent_id=intent.id,
        cause=cause,
        # Stripe's clock may be ahead of ours; no reader takes an event from the future.
        paid_at=min(paid_at, now),
        recorded_at=now,
        reference=intent.id,
        description=say(RECHARGE_TEXT, LANGUAGE),
        recharge_id=recharge.recharge_id,
    )


@dataclass(frozen=True, slots=True)
class ObservedRecharge:
    """A payment of a stored method as Stripe has it now."""

    intent: PaymentIntent

    @classmethod
    async def fetch(cls, stripe: StripeGateway, intent_id: str) -> Self | None:
        """Gets it from Stripe; None when there is none of that id."""
        try:
            return cls(await read_intent(stripe, intent_id))
        except StripeObjectUnknown:
            return None

    async def apply(self, connection: AsyncConnection, *, cause: str, now: datetime) -> RechargeSettlement | None:
        """Settles its recharge in the caller's transaction; None when it is of none of ours.

        While the request itself is being answered, only money that arrived is taken from here: what it means that there
        is none, the request knows better.
        """
        recharge = await lock_recharge_of(connection, self.intent.id)
        if recharge is None:
            recharge_id = recharge_id_in(self.intent.metadata)
            recharge = None if recharge_id is None else await lock_recharge(connection, recharge_id)
            if recharge is None or self.intent.metadata.get("mandateId") != recharge.mandate_id:
                return None
        if recharge.state == RechargeState.CHARGING and self.intent.status != "succeeded":
            return RechargeSettlement(RechargeState.CHARGING, None)
        return await settle_recharge(connection, recharge, self.intent, cause=cause, now=now)
