"""Stripe's webhook: no token, the signature over the raw body is what counts."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from services.payments.inbox.receive_event import ReceiveEvent

__all__ = ["webhook_routes"]

BODY_BYTES_MAX = 512 * 1024


def webhook_routes(receive: ReceiveEvent) -> APIRouter:
    """The one route."""
    router = APIRouter()

    @router.post("/api/billing/webhook/stripe")
    async def webhook(request: Request) -> JSONResponse:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                raise receive.refused("size")
        headers = request.headers
        await receive(bytes(body), headers.get("stripe-signature"), content_type=headers.get("content-type"))
        return JSONResponse({"received": True})

    return router
