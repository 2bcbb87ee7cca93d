"""How every API request is served: key, parameters, faults, idempotency, effect, expansion, headers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from dataclasses import dataclass

import orjson
from fastapi import Request, Response

from deploy.fakestripe.contract import API_VERSION, Contract
from deploy.fakestripe.listing import Expander
from deploy.fakestripe.objects import ADDITIONS, EXPANDABLE
from deploy.fakestripe.operation import Call, Operation, Settings, refuse_rest
from deploy.fakestripe.store import Json, Store
from deploy.fakestripe.webhooks import Disturbance, Outbox
from deploy.fakestripe.wire import MAX_BODY_BYTES, Answer, Claim, Idempotency, StripeError, decode_form, invalid

logger = logging.getLogger("fakestripe.api")

_FAULT_BODIES: dict[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", None),
    402: ("card_error", "card_declined"),
    404: ("invalid_request_error", "resource_missing"),
    409: ("idempotency_error", "idempotency_key_in_use"),
    429: ("invalid_request_error", "rate_limit"),
}


@dataclass
class Fault:
    """An answer that replaces the real one for the next `times` requests to a path.

    With `after_effect` the effect happens and only its answer is lost; `delay_s` (real time) holds the request
    back first. The status 200 changes nothing but the delay. With `kept` it is the answer of every later request
    with the same idempotency key, as at Stripe: it keeps its own failures too.
    """

    path: str
    status: int
    times: int
    method: str | None = None
    after_effect: bool = False
    delay_s: float = 0.0
    kept: bool = False

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request is one of those to be answered so."""
        return self.times > 0 and self.method in (None, method) and path.startswith(self.path)

    async def strike(self, claim: Claim) -> None:
        """Wait, and raise the answer."""
        await asyncio.sleep(self.delay_s)
        if self.status >= 400:
            default = ("api_error" if self.status >= 500 else "invalid_request_error", None)
            kind, code = _FAULT_BODIES.get(self.status, default)
            error = StripeError(self.status, f"The fake Stripe was told to answer {self.status}.", kind=kind, code=code)
            if self.kept:
                claim.keep(Answer(error.status, error.body))
            raise error


class Api:
    """Serves operations on one store."""

    def __init__(self, store: Store, settings: Settings, outbox: Outbox) -> None:
        self.store = store
        self.settings = settings
        self.outbox = outbox
        self.faults: list[Fault] = []
        self._contract = Contract()
        self._idempotency = Idempotency(store)
        self._expander = Expander(EXPANDABLE, ADDITIONS)

    def begin(self) -> Call:
        """Start an effect that no API request asked for."""
        return Call(self.store, self.settings)

    def finish(self, call: Call, disturbance: Disturbance | None = None) -> None:
        """Schedule the webhooks of an effect's events."""
        self.outbox.schedule(call.events, disturbance)

    async def guarded(self, request: Request, operation: Operation | None) -> Response:
        """Answer a request, errors in Stripe's form; no operation means that the address is unknown."""
        request_id = self.store.new_id("req_", 14)
        headers = {
            "Request-Id": request_id,
            "Stripe-Version": request.headers.get("stripe-version", API_VERSION),
        }
        key = request.headers.get("idempotency-key")
        if key is not None:
            headers["Idempotency-Key"] = key
        try:
            self._authenticate(request)
            if operation is None:
                message = f"Unrecognized request URL ({request.method}: {request.url.path})."
                raise StripeError(404, message)
            answer = await self._serve(request, operation, request_id)
        except StripeError as error:
            answer = Answer(error.status, error.body)
        except Exception:
            logger.exception("%s %s failed", request.method, request.url.path)
            body: Json = {"error": {"message": "The fake Stripe has an error of its own.", "type": "api_error"}}
            answer = Answer(500, body)
        if answer.replay_of is not None:
            headers |= {"Idempotent-Replayed": "true", "Original-Request": answer.replay_of}
        return Response(orjson.dumps(answer.body), answer.status, headers, media_type="application/json")

    def _authenticate(self, request: Request) -> None:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                key = base64.b64decode(credentials, validate=True).decode().partition(":")[0]
            except (binascii.Error, UnicodeDecodeError) as error:
                raise StripeError(401, "Invalid basic authentication.") from error
        else:
            key = credentials.strip() if scheme.lower() == "bearer" else ""
        if not key:
            raise StripeError(401, "You did not provide an API key, as a Bearer token or as the name in basic auth.")
        if key.startswith(("sk_live_", "rk_live_")):
            raise StripeError(401, "This is a fake Stripe. Never send it a live key; roll the one you sent.")
        expected = self.settings.api_key
        if not key.startswith(("sk_test_", "rk_test_")) or (expected is not None and key != expected):
            raise StripeError(401, f"Invalid API Key provided: {key[:8]}***")

    async def _serve(self, request: Request, operation: Operation, request_id: str) -> Answer:
        form = decode_form(await _read(request))
        params = self._contract.check(operation.params, form)
        refuse_rest(params, (*operation.takes, "expand"))
        call = Call(
            self.store,
            self.settings,
            params=params,
            path={name: str(value) for name, value in request.path_params.items()},
            url=request.url.path,
            request_id=request_id,
            idempotency_key=request.headers.get("idempotency-key"),
        )
        fault = self._take_fault(request.method, request.url.path)
        key = call.idempotency_key if request.method == "POST" else None
        with self._idempotency.claim(key, request_id, f"{request.method} {call.url}", form) as claim:
            if fault is not None and not fault.after_effect:
                await fault.strike(claim)
            answer = claim.stored or await self._execute(operation, call, claim)
            if fault is not None and fault.after_effect:
                await fault.strike(claim)
            return answer

    def _take_fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.matches(method, path):
                fault.times -= 1
                if fault.times == 0:
                    self.faults.remove(fault)
                return fault
        return None

    async def _execute(self, operation: Operation, call: Call, claim: Claim) -> Answer:
        """Run the operation once; a declined card is a result too and kept like a success."""
        try:
            result = operation.run(call)
        except StripeError as error:
            if error.status != 402:
                raise
            answer = Answer(error.status, error.body)
        else:
            answer = Answer(200, self._expander.expand(self.store, result, call.params.get("expand", [])))
        finally:
            # Also when the answer is an error: what has happened is delivered and saved.
            if operation.method != "GET":
                self.finish(call)
        claim.keep(answer)
        await self.store.saved()
        return answer


async def _read(request: Request) -> str:
    """Return the query and the form body as one form, with a limit on its size."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise StripeError(413, "Request body is too large.")
    if body and "application/x-www-form-urlencoded" not in request.headers.get("content-type", ""):
        raise invalid("Invalid content type: the API takes application/x-www-form-urlencoded.")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise invalid("The request body is not UTF-8.") from error
    return "&".join(part for part in (request.url.query, text) if part)
