"""Topping up: what is offered, starting a checkout, confirming it after the redirect."""

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request
from pydantic import WithJsonSchema

from services.chassis.bodies import IDENTIFIER, IDENTIFIER_SCHEMA, SIX_PLACES, money_json
from services.chassis.caller import CurrentCaller, MandateUnknown, require_person
from services.chassis.exact_json import ExactJsonRoute
from services.chassis.operations import Access, Repeat, operation
from services.chassis.requests import request_id_of
from services.chassis.state import of_state
from services.chassis.validation import Form
from services.payments.checkouts.bodies import (
    Checkout,
    CheckoutOptions,
    Confirmation,
    Confirmed,
    Redirect,
    ReturnPage,
)
from services.payments.checkouts.confirm_checkout import ConfirmCheckout
from services.payments.checkouts.create_checkout import CURRENCY, CheckoutOrder, CreateCheckout
from services.payments.checkouts.domain import SETUP, Payment
from services.payments.checkouts.open_portal import OpenPortal

__all__ = ["CheckoutContext", "api", "methods"]


@dataclass(frozen=True, slots=True)
class CheckoutContext:
    """The objects that the routes use; the application has them as `state.checkouts`."""

    create: CreateCheckout
    confirm: ConfirmCheckout
    open_portal: OpenPortal
    # CHF that can be topped up.
    amounts: Collection[Decimal]


Context = Annotated[CheckoutContext, of_state("checkouts")]
MandateId = Annotated[str, Path(alias="mandateId"), WithJsonSchema(IDENTIFIER_SCHEMA)]
# The gateway sends it with every change that can be repeated, and documents it there.
IdempotencyKey = Annotated[
    str,
    Form(
        r"^[\x21-\x7e]{1,255}$",
        "1 to 255 visible ASCII characters without spaces are expected",
        "1 bis 255 sichtbare ASCII-Zeichen ohne Leerzeichen werden erwartet",
    ),
]

api = APIRouter(prefix="/api/billing/checkout", route_class=ExactJsonRoute)
methods = APIRouter(prefix="/api/payments", route_class=ExactJsonRoute)


async def _require_admin(mandate_id: MandateId, caller: CurrentCaller) -> None:
    """FastAPI dependency: refuses callers who do not administer the mandate, before the body is read."""
    caller.require_admin(mandate_id)
    if not IDENTIFIER.fullmatch(mandate_id):
        raise MandateUnknown


@api.get(
    "/options",
    dependencies=[Depends(require_person)],
    **operation(
        "payments-list-checkout-options",
        "The amounts that can be paid in.",
        access=Access.PERSON,
        answer=CheckoutOptions,
    ),
)
async def get_options(context: Context) -> dict[str, Any]:
    return {"amounts": [money_json(amount, CURRENCY) for amount in context.amounts]}


@api.post(
    "/create/{mandateId}",
    dependencies=[Depends(_require_admin)],
    **operation(
        "payments-create-checkout",
        "Start a top-up; the payer goes to the answered address.",
        access=Access.MANDATE_ADMIN,
        limit=10,
        repeat=Repeat.KEY,
        answer=Redirect,
        refuses=(400, 404, 409, 413, 415, 422),
    ),
)
async def post_create(
    context: Context,
    caller: CurrentCaller,
    mandate_id: MandateId,
    body: Checkout,
    idempotency_key: Annotated[IdempotencyKey | None, Header(include_in_schema=False)] = None,
) -> dict[str, str]:
    order = CheckoutOrder(
        mandate_id=mandate_id,
        user_id=body.user_id,
        amount=body.amount,
        return_url=body.return_url,
        created_by_user_id=caller.user_id,
        language=caller.language,
        idempotency_key=idempotency_key,
        save_method=body.save_payment_method,
    )
    return {"redirectUrl": await context.create(order)}


@methods.post(
    "/setup/{mandateId}",
    dependencies=[Depends(_require_admin)],
    **operation(
        "payments-set-up-method",
        "Save a payment method for automatic recharges; its owner goes to the answered address.",
        access=Access.MANDATE_ADMIN,
        limit=10,
        repeat=Repeat.KEY,
        answer=Redirect,
        refuses=(400, 404, 409, 413, 415, 422),
    ),
)
async def post_setup(
    context: Context,
    caller: CurrentCaller,
    mandate_id: MandateId,
    body: ReturnPage,
    idempotency_key: Annotated[IdempotencyKey | None, Header(include_in_schema=False)] = None,
) -> dict[str, str]:
    order = CheckoutOrder(
        mandate_id=mandate_id,
        user_id=None,
        amount=Decimal(0),
        return_url=body.return_url,
        created_by_user_id=caller.user_id,
        language=caller.language,
        idempotency_key=idempotency_key,
        purpose=SETUP,
    )
    return {"redirectUrl": await context.create(order)}


@methods.post(
    "/portal/{mandateId}",
    dependencies=[Depends(_require_admin)],
    **operation(
        "payments-open-portal",
        "The page on which a mandate's payment methods, invoices and subscription are managed.",
        access=Access.MANDATE_ADMIN,
        limit=10,
        # Each is an address of its own to the same page.
        repeat=Repeat.SAME,
        answer=Redirect,
        refuses=(400, 404, 413, 415, 422),
    ),
)
async def post_portal(
    context: Context, caller: CurrentCaller, mandate_id: MandateId, body: ReturnPage
) -> dict[str, str]:
    address = await context.open_portal(mandate_id, return_url=body.return_url, language=caller.language)
    return {"redirectUrl": address}


@api.post(
    "/confirm",
    **operation(
        "payments-confirm-checkout",
        "Credit a paid top-up, once; for an administrator of its mandate.",
        access=Access.PERSON,
        limit=20,
        repeat=Repeat.SAME,
        answer=Confirmed,
        refuses=(404, 409, 413, 415, 422),
    ),
)
async def post_confirm(context: Context, caller: CurrentCaller, body: Confirmation, request: Request) -> dict[str, Any]:
    settlement = await context.confirm(body.session_id, caller=caller, cause=request_id_of(request))
    payment = settlement.payment
    return {
        "credited": settlement.credited,
        "alreadyCredited": payment is not None and not settlement.credited,
        "sessionId": body.session_id,
        "mandateId": settlement.checkout.mandate_id,
        "amountChf": _amount_chf(payment),
    }


def _amount_chf(payment: Payment | None) -> Decimal | None:
    """Zero where nothing was to be paid; None where the currency paid is still to be converted."""
    if payment is None:
        return Decimal(0).quantize(SIX_PLACES)
    return payment.amount.quantize(SIX_PLACES) if payment.currency == CURRENCY else None
