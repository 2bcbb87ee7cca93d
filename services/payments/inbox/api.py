"""Stripe's webhook: no token, the signature over the raw body is what counts."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from services.chassis.operations import Access, Repeat, operation
from services.chassis.state import of_state
from services.payments.inbox.bodies import Received, StripeEvent
from services.payments.inbox.receive_event import ReceiveEvent

__all__ = ["api"]

BODY_BYTES_MAX = 512 * 1024

api = APIRouter()


@api.post(
    "/api/billing/webhook/stripe",
    **operation(
        "payments-receive-stripe-event",
        "Take an event of Stripe, signed by Stripe.",
        access=Access.NOBODY,
        limit=None,
        repeat=Repeat.SAME,
        body=StripeEvent,
        # The signature comes before everything else that is said of the body, its type included.
        body_type_checked=False,
        answer=Received,
        refuses=(400, 413),
    ),
)
async def post_event(request: Request, receive: Annotated[ReceiveEvent, of_state("receive_event")]) -> JSONResponse:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise receive.refused("size")
    headers = request.headers
    await receive(bytes(body), headers.get("stripe-signature"), content_type=headers.get("content-type"))
    return JSONResponse({"received": True})
