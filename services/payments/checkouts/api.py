"""Topping up: what is offered, starting a checkout, confirming it after the redirect."""

import re
from collections.abc import Collection
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request

from services.chassis.caller import Caller, CallerVerifier
from services.chassis.exact_json import ExactJsonResponse, ExactJsonRoute
from services.chassis.problems import request_id_of
from services.payments.checkouts.bodies import ConfirmBody, CreateBody, IdempotencyKey
from services.payments.checkouts.confirm_checkout import ConfirmCheckout
from services.payments.checkouts.create_checkout import CURRENCY, CreateCheckout, TopUpOrder
from services.payments.checkouts.errors import UnknownMandate

__all__ = ["checkout_routes"]

SIX_PLACES = Decimal("0.000001")
_MANDATE_ID = re.compile(r"[A-Za-z0-9._:@|-]{1,64}", re.ASCII)


def checkout_routes(
    *, caller: CallerVerifier, create: CreateCheckout, confirm: ConfirmCheckout, amounts: Collection[Decimal]
) -> APIRouter:
    """The routes under /api/billing/checkout."""
    router = APIRouter(prefix="/api/billing/checkout", route_class=ExactJsonRoute)

    async def admin(
        mandate_id: Annotated[str, Path(alias="mandateId")], person: Annotated[Caller, Depends(caller)]
    ) -> Caller:
        # A dependency, because it is decided before the body is looked at.
        person.require_admin(mandate_id)
        if not _MANDATE_ID.fullmatch(mandate_id):
            raise UnknownMandate
        return person

    @router.get("/options")
    async def options(person: Annotated[Caller, Depends(caller)]) -> ExactJsonResponse:
        person.require_person()
        return ExactJsonResponse({"amounts": [_money(amount) for amount in amounts]})

    @router.post("/create/{mandateId}")
    async def create_checkout(
        mandate_id: Annotated[str, Path(alias="mandateId")],
        person: Annotated[Caller, Depends(admin)],
        body: CreateBody,
        idempotency_key: Annotated[IdempotencyKey | None, Header()] = None,
    ) -> ExactJsonResponse:
        order = TopUpOrder(
            mandate_id=mandate_id,
            user_id=body.user_id,
            amount=body.amount,
            return_url=body.return_url,
            created_by_user_id=person.user_id,
            language=person.language,
            idempotency_key=idempotency_key,
        )
        return ExactJsonResponse({"redirectUrl": await create(order)})

    @router.post("/confirm")
    async def confirm_checkout(
        person: Annotated[Caller, Depends(caller)], body: ConfirmBody, request: Request
    ) -> ExactJsonResponse:
        confirmation = await confirm(body.session_id, caller=person, cause=request_id_of(request))
        amount = confirmation.amount
        return ExactJsonResponse(
            {
                "credited": confirmation.credited,
                "alreadyCredited": confirmation.already_credited,
                "sessionId": confirmation.session_id,
                "mandateId": confirmation.mandate_id,
                "amountChf": None if amount is None else amount.quantize(SIX_PLACES),
            }
        )

    return router


def _money(amount: Decimal) -> dict[str, str]:
    return {"amount": format(amount.quantize(SIX_PLACES), "f"), "currency": CURRENCY}
