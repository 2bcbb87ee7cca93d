"""Topping up: what is offered, starting a checkout, confirming it after the redirect."""

import re
from collections.abc import Collection
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

from services.chassis.caller import Caller, CallerVerifier
from services.chassis.exact_json import ExactJsonResponse, ExactJsonRoute
from services.chassis.problems import request_id_of
from services.chassis.validation import Form, value_fault
from services.payments.checkouts.confirm_checkout import ConfirmCheckout
from services.payments.checkouts.create_checkout import CURRENCY, CreateCheckout, TopUpOrder
from services.payments.checkouts.domain import Payment
from services.payments.checkouts.errors import UnknownMandate

__all__ = ["checkout_routes"]

SIX_PLACES = Decimal("0.000001")
DECIMALS_MAX = 6
INTEGER_DIGITS_MAX = 14
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
        settlement = await confirm(body.session_id, caller=person, cause=request_id_of(request))
        payment = settlement.payment
        return ExactJsonResponse(
            {
                "credited": settlement.credited,
                "alreadyCredited": payment is not None and not settlement.credited,
                "sessionId": body.session_id,
                "mandateId": settlement.checkout.mandate_id,
                "amountChf": _amount_chf(payment),
            }
        )

    return router


def _money(amount: Decimal) -> dict[str, str]:
    return {"amount": format(amount.quantize(SIX_PLACES), "f"), "currency": CURRENCY}


def _amount_chf(payment: Payment | None) -> Decimal | None:
    """Zero where nothing was to be paid; None where the currency paid is still to be converted."""
    if payment is None:
        return Decimal(0).quantize(SIX_PLACES)
    return payment.amount.quantize(SIX_PLACES) if payment.currency == CURRENCY else None


def _exact_number(value: object) -> Decimal:
    """A JSON number as its exact decimal; `true` is a number to Python, not to us."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise value_fault("number", en="a JSON number is expected", de="eine JSON-Zahl wird erwartet")
    number = Decimal(value)
    if number and number.adjusted() >= INTEGER_DIGITS_MAX:
        raise value_fault("number", en="is too large", de="ist zu gross")
    if number != round(number, DECIMALS_MAX):
        raise value_fault("number", en="at most six decimals", de="höchstens sechs Nachkommastellen")
    return number


Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@|-]{1,64}$")]
IdempotencyKey = Annotated[
    str,
    Form(
        r"^[\x21-\x7e]{1,255}$",
        "1 to 255 visible ASCII characters without spaces are expected",
        "1 bis 255 sichtbare ASCII-Zeichen ohne Leerzeichen werden erwartet",
    ),
]


class _Body(BaseModel):
    """Strictly typed; unknown names are ignored."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=False
    )


class CreateBody(_Body):
    """What checkout/create is asked. The return URL is judged later, with an error of its own."""

    user_id: Identifier | None = None
    amount: Annotated[Decimal, BeforeValidator(_exact_number)]
    return_url: str


class ConfirmBody(_Body):
    """What checkout/confirm is asked; what cannot be a session's id is an unknown session."""

    session_id: str
