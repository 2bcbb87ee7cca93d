"""The public operations that the payments service answers."""

from urllib.parse import urlencode

from fastapi import Request, Response

from services.chassis.exact_json import read_json
from services.chassis.problems import InvalidBody
from services.chassis.validation import FieldFault
from services.gateway.api.bodies import read_body
from services.gateway.api.documents import payments as documents
from services.gateway.api.forwarding import add_forwarded, answer_of, forward, forward_raw, headers_of, time_for
from services.gateway.api.operations import SERVICE_S, Body, Call, Operation, Repeat, Surface, Who
from services.gateway.clients import ServiceClient, path_of

__all__ = ["add_payments"]

_OPTIONS = Operation(
    "GET",
    "/api/billing/checkout/options",
    "payments-list-checkout-options",
    "The amounts that can be paid in.",
    answer=documents.CheckoutOptions,
)
_CHECKOUT = Body(documents.Checkout)
_CREATE = Operation(
    "POST",
    "/api/billing/checkout/create/{mandateId}",
    "payments-create-checkout",
    "Start a top-up; the payer goes to the answered address.",
    who=Who.MANDATE_ADMIN,
    limit=10,
    body=_CHECKOUT,
    answer=documents.Redirect,
    refusals=(400, 404, 409, 413, 415, 422),
    repeat=Repeat.KEY,
)
_CONFIRM = Operation(
    "POST",
    "/api/billing/checkout/confirm",
    "payments-confirm-checkout",
    "Credit a paid top-up, once; for an administrator of its mandate.",
    body=Body(documents.Confirmation),
    limit=20,
    answer=documents.Confirmed,
    refusals=(404, 409, 413, 415, 422),
    repeat=Repeat.SAME,
)
# The signature comes before everything else that is said of the body, its type included.
_EVENT = Body(documents.StripeEvent, enforced=False)
_WEBHOOK = Operation(
    "POST",
    "/api/billing/webhook/stripe",
    "payments-receive-stripe-event",
    "Take an event of Stripe, signed by Stripe.",
    who=Who.NOBODY,
    limit=None,
    body=_EVENT,
    answer=documents.Received,
    refusals=(400, 413),
    repeat=Repeat.SAME,
)


def add_payments(surface: Surface, *, payments: ServiceClient, billing: ServiceClient) -> None:
    """Serves them."""
    add_forwarded(surface, payments, (_OPTIONS, _CONFIRM))

    async def create(call: Call) -> Response:
        body = await read_body(call.request, _CHECKOUT)
        target = await _top_up_target(billing, call, _user_id(body))
        return target if target.status_code != 200 else await forward(payments, _CREATE, call, body)

    async def webhook(request: Request) -> Response:
        # The signature covers the bytes, so they pass untouched.
        return await forward_raw(payments, _WEBHOOK.path, request, _EVENT, "stripe-signature")

    surface.add(_CREATE, create)
    surface.add_open(_WEBHOOK, webhook)


async def _top_up_target(billing: ServiceClient, call: Call, user_id: str | None) -> Response:
    """What billing says to money for this mandate and member: payments knows neither the directory nor the models."""
    answer = await billing.send(
        "GET",
        path_of("/internal/top-up-target/{mandateId}", call.path),
        caller=call.caller,
        query=urlencode({"userId": user_id}).encode() if user_id is not None else b"",
        headers=headers_of(call.request),
        timeout_s=time_for(call.request, SERVICE_S),
    )
    return answer_of(answer, call.caller)


def _user_id(body: bytes) -> str | None:
    given = read_json(body)
    user_id = given.get("userId") if isinstance(given, dict) else None
    if user_id is None or isinstance(user_id, str):
        return user_id
    raise InvalidBody([FieldFault("userId", {"en": "text is expected", "de": "Text wird erwartet"})])
