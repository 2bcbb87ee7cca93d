"""Promotions: credit given for a time, at once to one mandate, or to each mandate that redeems its code, once."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.types import NonNegativeMoney
from services.billing.credits.credit_mandate import MandateCredit, credit_mandate
from services.billing.credits.errors import (
    CodeTaken,
    CodeUnknown,
    ExpiresTooEarly,
    PromotionExpired,
    PromotionForNobody,
    PromotionRedeemed,
)
from services.billing.credits.repository import (
    Promotion,
    insert_promotion,
    insert_redemption,
    read_promotion,
)
from services.billing.errors import AmountAboveCeiling, InvalidField
from services.billing.http import micro_chf
from services.billing.mandates.answers import PLATFORM, KeyedRequest, answer_once
from services.billing.mandates.audit_log import record_change
from services.billing.mandates.open_mandate import open_mandate
from services.billing.mandates.repository import lock_mandate
from services.billing.money import money_json
from services.billing.pricing import utc_text
from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["Offer", "give_promotion", "redeem_code"]

_IN_CHF = {"en": "a promotion is in CHF", "de": "eine Gutschrift ist in CHF"}


@dataclass(frozen=True, slots=True)
class Offer:
    """A promotion as a system administrator asks for it; without a mandate it is for every one that has the code."""

    mandate_id: str | None
    amount: NonNegativeMoney
    expires_at: datetime
    reason: str
    code: str | None
    key: str | None
    body: str


async def give_promotion(
    database: Database, offer: Offer, *, amount_max: Decimal, caller: Caller, clock: Clock
) -> dict[str, Any]:
    """Makes the promotion and answers it; without a code it is granted at once. `amount_max` is in CHF. A repeat with
    the same key gets the first answer."""
    amount = _micros(offer.amount, amount_max)
    if offer.mandate_id is None and offer.code is None:
        raise PromotionForNobody
    async with database.transaction() as connection:
        mandate_no = None if offer.mandate_id is None else await open_mandate(connection, offer.mandate_id)
        now = clock()

        async def make() -> dict[str, Any]:
            if offer.expires_at <= now:
                raise ExpiresTooEarly
            promotion = Promotion(uuid4(), mandate_no, amount, offer.expires_at, offer.reason, offer.code)
            if not await insert_promotion(connection, promotion, created_by=caller.user_id, now=now):
                raise CodeTaken
            answer = _promotion_json(promotion, offer.mandate_id)
            await record_change(
                connection,
                mandate_no=mandate_no,
                actor=caller.user_id,
                action="promotion",
                before=None,
                after=answer,
                now=now,
            )
            if mandate_no is not None and offer.code is None:
                await _grant(connection, promotion, mandate_no, user_id=caller.user_id, now=now)
            return answer

        asked = KeyedRequest("promotion", PLATFORM, caller.user_id, offer.key, offer.body)
        return await answer_once(connection, asked, make, now=now)


async def redeem_code(
    database: Database, mandate_id: str, code: str, *, key: str | None, caller: Caller, clock: Clock
) -> dict[str, Any]:
    """Grants the promotion of a code to a mandate and answers it; a mandate redeems it once. A repeat with the same key
    gets the first answer."""
    async with database.transaction() as connection:
        mandate_no = await open_mandate(connection, mandate_id)
        now = clock()

        async def redeem() -> dict[str, Any]:
            promotion = await read_promotion(connection, code)
            if promotion is None or promotion.mandate_no not in (None, mandate_no):
                raise CodeUnknown
            if promotion.expires_at <= now:
                raise PromotionExpired
            await _grant(connection, promotion, mandate_no, user_id=caller.user_id, now=now)
            return _promotion_json(promotion, mandate_id)

        # No code has a line break.
        asked = KeyedRequest("redeem", PLATFORM, caller.user_id, key, f"{code}\n{mandate_id}")
        return await answer_once(connection, asked, redeem, now=now)


async def _grant(
    connection: AsyncConnection, promotion: Promotion, mandate_no: int, *, user_id: str, now: datetime
) -> None:
    """Under the mandate's lock, so that of two who redeem at once the second finds that it is done.

    What members get a part of, each in a budget of their own, is their row, as with a plan's budget: nobody's in
    particular made it, and who redeemed it is recorded with the redemption.
    """
    mandate = await lock_mandate(connection, mandate_no)
    if not await insert_redemption(connection, mandate_no, promotion.id, redeemed_by=user_id, now=now):
        raise PromotionRedeemed
    credit = MandateCredit(
        user_id=None,
        cause=f"promotion/{promotion.id}",
        amount=promotion.amount,
        contra_account="PROMOTIONAL",
        reference_type="SYSTEM",
        reference_id=str(promotion.id),
        description=f"Promotion: {promotion.reason}",
        occurred_at=now,
        created_by_user_id=None if mandate.billing_model == "PREPAY_USER" else user_id,
        grant="PROMOTION",
        expires_at=promotion.expires_at,
    )
    await credit_mandate(connection, mandate, credit, now=now)


def _promotion_json(promotion: Promotion, mandate_id: str | None) -> dict[str, Any]:
    return {
        "id": str(promotion.id),
        "mandateId": mandate_id,
        "amount": money_json(promotion.amount),
        "expiresAt": utc_text(promotion.expires_at),
        "reason": promotion.reason,
        "code": promotion.code,
    }


def _micros(amount: NonNegativeMoney, amount_max: Decimal) -> int:
    micros = micro_chf(amount, "amount", currency=_IN_CHF)
    if micros <= 0:
        raise InvalidField("amount.amount", en="more than 0 is expected", de="mehr als 0 wird erwartet")
    if amount.amount > amount_max:
        raise AmountAboveCeiling("amount.amount", amount_max)
    return micros
