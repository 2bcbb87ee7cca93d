"""The only file that knows Stripe's client: calls in our words, plain values and exact amounts out, every failure one
of ours.

Nothing of Stripe's own texts leaves this file: they can hold what a payer typed.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import quote, urlencode
from uuid import UUID

import orjson
import stripe

from services.chassis.logging import get_logger
from services.chassis.problems import Problem
from services.payments.stripe.errors import (
    StripeBusy,
    StripeDeclined,
    StripeFailed,
    StripeNotConfigured,
    StripeObjectUnknown,
    StripeRefused,
    StripeUnavailable,
)
from services.payments.stripe.http_client import HttpClient
from services.payments.stripe.json_values import id_of, metadata_of
from services.payments.stripe.objects import CheckoutSession, OpenedSession, PaymentIntent
from services.payments.stripe.views import view

if TYPE_CHECKING:
    from stripe.params.checkout import SessionCreateParams

__all__ = ["StripeGateway", "TopUp", "from_minor", "payment_intent", "to_minor"]

# Requests and answers have the shape of this version, whatever the account's own default is.
API_VERSION: Final = "2026-10-28.endive"
NETWORK_RETRIES_MAX: Final = 2
# Places of the minor unit as Stripe charges; every other currency has two. ISK, UGX, HUF and TWD have two there,
# whatever the currencies themselves have.
_NO_PLACES = frozenset(
    ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF")
)
_THREE_PLACES = frozenset(("BHD", "JOD", "KWD", "OMR", "TND"))

# The key was taken back, has expired or may not do this: whatever is asked is as good as before once it is mended, so
# it is no answer to what was asked. A customer's card is not declined by it.
_KEY_ERRORS: Final = stripe.AuthenticationError | stripe.PermissionError

T = TypeVar("T")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TopUp:
    """A payment to ask Stripe for; `amount` is in units of the currency, `currency` in capitals."""

    checkout_id: UUID
    mandate_id: str
    user_id: str | None
    amount: Decimal
    currency: str
    name: str
    description: str
    language: str
    success_url: str
    cancel_url: str
    # Whose method is saved by the payment; None where none is.
    customer_id: str | None = None


class StripeGateway:
    """Stripe, through one account. `stop` at the end; without an API key every call raises StripeNotConfigured.

    `taken_over_at` is since when money of this account is settled here: what was paid or went back before, the system
    before this one has settled. None where there was none.
    """

    def __init__(
        self, api_key: str | None, *, api_base: str | None, timeout_s: float, taken_over_at: datetime | None = None
    ) -> None:
        self.taken_over_at = taken_over_at
        # The client has no option of its own for it.
        stripe.enable_telemetry = False
        self._base = (api_base or stripe.DEFAULT_API_BASE).rstrip("/")
        self._http = HttpClient(self._base, timeout_s=timeout_s)
        self._headers = {"Authorization": f"Bearer {api_key}", "Stripe-Version": API_VERSION, "User-Agent": "Rappen"}
        self._client = None
        if api_key is not None:
            self._client = stripe.StripeClient(
                api_key,
                stripe_version=API_VERSION,
                base_addresses={"api": api_base} if api_base is not None else {},
                # Off unless it is given.
                max_network_retries=NETWORK_RETRIES_MAX,
                http_client=self._http,
            )

    async def start(self) -> None:
        """Nothing to connect: a Stripe that is away must not keep the webhook from storing events."""

    async def stop(self) -> None:
        """Closes the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def open_top_up(self, top_up: TopUp, *, idempotency_key: str) -> OpenedSession:
        """Makes the session in which a top-up is paid; the same key and top-up give the same session.

        Raises ValueError for an amount that is no whole number of minor units.
        """
        params, options = _top_up_params(top_up), {"idempotency_key": idempotency_key}
        session = await self.ask(lambda v1: v1.checkout.sessions.create_async(params, options))
        if session.get("url") is None:
            _log.error("stripe gave a session without an address", session_id=session.get("id"))
            raise StripeRefused
        return OpenedSession(id=session["id"], url=session["url"])

    async def checkout_session(self, session_id: str) -> CheckoutSession:
        """The session as Stripe has it now, with its payment; raises StripeObjectUnknown."""
        expanded = ["payment_intent.latest_charge", "setup_intent"]
        return _session(await self.read("checkout/sessions", session_id, expand=expanded))

    async def ask(self, call: Callable[[Any], Awaitable[Any]]) -> dict[str, Any]:
        """Makes a call of the client's that changes something, as `lambda v1: v1.customers.create_async(params,
        options)`; gives the JSON of the object that Stripe answers."""
        answer = await _answer(call(self._v1))
        found = answer.to_dict(for_json=True) if isinstance(answer, stripe.StripeObject) else None
        if not _has_id(found):
            # The client gives JSON that is no object as it is; of what is no JSON at all it says this itself.
            raise _translated(stripe.APIError("Stripe's answer is no object"))
        return cast("dict[str, Any]", found)

    async def read(self, collection: str, object_id: str, **params: Any) -> dict[str, Any]:
        """The JSON of an object as Stripe has it now, as of `subscriptions`; raises StripeObjectUnknown."""
        if object_id in (".", ".."):
            # No id, and in an address it would name something else.
            raise StripeObjectUnknown
        found = await self._get(f"{collection}/{quote(object_id, safe='')}", params)
        if found.get("id", object_id) != object_id:
            raise _unreadable("another object", collection)
        return found

    async def read_list(self, collection: str, **params: Any) -> list[dict[str, Any]]:
        """The JSON of every object of every page, newest first as Stripe lists them. Raises StripeUnavailable for what
        is no page, and for one that leads nowhere, because what is not seen of money would be told to nobody."""
        found: dict[str, dict[str, Any]] = {}
        after: dict[str, str] = {}
        while True:
            page = await self._get(collection, {**params, **after})
            listed, has_more = page.get("data"), page.get("has_more")
            if not isinstance(listed, list) or not isinstance(has_more, bool) or not all(map(_has_id, listed)):
                raise _unreadable("no page of a list", collection)
            new = {each["id"]: each for each in listed if each["id"] not in found}
            found |= new
            if not has_more:
                return list(found.values())
            if not new:
                raise _unreadable("a page that leads nowhere", collection)
            after = {"starting_after": listed[-1]["id"]}

    async def _get(self, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Over the client's HTTP, which tries again, and past its requests and objects, whose making costs more than
        all the rest of a call."""
        if self._client is None:
            raise StripeNotConfigured
        return await _answer(self._got(f"{self._base}/v1/{path}{_query(params)}"))

    async def _got(self, url: str) -> dict[str, Any]:
        body, status, headers = await self._http.request_with_retries_async(
            "get", url, self._headers, max_network_retries=NETWORK_RETRIES_MAX
        )
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:
            found = None
        if status != 200 or not isinstance(found, dict):
            raise _read_error(status, found, headers)
        return found

    @property
    def _v1(self) -> Any:
        if self._client is None:
            raise StripeNotConfigured
        return self._client.v1


def _has_id(found: object) -> bool:
    return isinstance(found, dict) and isinstance(found.get("id"), str)


def _unreadable(what: str, collection: str) -> StripeUnavailable:
    _log.error("stripe gave what cannot be read", what=what, collection=collection)
    return StripeUnavailable()


def _top_up_params(top_up: TopUp) -> "SessionCreateParams":
    # For people who look at Stripe's dashboard, and for the take-over of another system one day; we never read an
    # amount out of it.
    metadata = {"mandateId": top_up.mandate_id, "checkoutId": str(top_up.checkout_id)}
    if top_up.user_id is not None:
        metadata["userId"] = top_up.user_id
    saving: dict[str, Any] = {}
    if top_up.customer_id is not None:
        saving = {"setup_future_usage": "off_session"}
    params: SessionCreateParams = {
        "mode": "payment",
        "client_reference_id": str(top_up.checkout_id),
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": top_up.currency.lower(),
                    "unit_amount": to_minor(top_up.amount, top_up.currency),
                    "product_data": {"name": top_up.name},
                },
            }
        ],
        "metadata": metadata,
        "payment_intent_data": cast("Any", {"description": top_up.description, "metadata": metadata, **saving}),
        "locale": "de" if top_up.language == "de" else "en",
        "success_url": top_up.success_url,
        "cancel_url": top_up.cancel_url,
    }
    if top_up.customer_id is not None:
        params["customer"] = top_up.customer_id
    return params


@view
def _session(session: dict[str, Any]) -> CheckoutSession:
    intent, setup = session.get("payment_intent"), session.get("setup_intent")
    currency = (session.get("currency") or "").upper()
    return CheckoutSession(
        id=session["id"],
        status=session.get("status"),
        payment_status=session["payment_status"],
        amount_total=from_minor(session.get("amount_total") or 0, currency),
        currency=currency,
        client_reference_id=session.get("client_reference_id"),
        created_at=_time(session["created"]),
        mode=session.get("mode") or "payment",
        payment_intent=payment_intent(intent) if isinstance(intent, dict) else None,
        customer_id=id_of(session.get("customer")),
        subscription_id=id_of(session.get("subscription")),
        setup_method_id=id_of(setup.get("payment_method")) if isinstance(setup, dict) else None,
        locale=session.get("locale"),
        metadata=metadata_of(session),
    )


@view
def payment_intent(intent: dict[str, Any]) -> PaymentIntent:
    """A payment intent from its JSON; the time of its charge is known where that is expanded."""
    charge = intent.get("latest_charge")
    currency = intent["currency"].upper()
    return PaymentIntent(
        id=intent["id"],
        status=intent["status"],
        amount_received=from_minor(intent["amount_received"], currency),
        currency=currency,
        paid_at=_time(charge["created"] if isinstance(charge, dict) else intent["created"]),
        customer_id=id_of(intent.get("customer")),
        method_id=id_of(intent.get("payment_method")),
        saves_method=intent.get("setup_future_usage") == "off_session",
        decline_code=_decline_code(intent.get("last_payment_error")),
        metadata=metadata_of(intent),
    )


def _decline_code(error: object) -> str | None:
    if not isinstance(error, dict):
        return None
    code = error.get("decline_code") or error.get("code")
    return code if isinstance(code, str) else None


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def from_minor(units: int, currency: str) -> Decimal:
    """The amount of a number of minor units; `currency` is in capitals."""
    return Decimal(units).scaleb(-_places(currency))


def to_minor(amount: Decimal, currency: str) -> int:
    """The minor units of an amount; raises ValueError for one that is no whole number of them."""
    units = amount.scaleb(_places(currency))
    if units != units.to_integral_value():
        raise ValueError(f"{amount} {currency} is no whole number of minor units")
    return int(units)


def _places(currency: str) -> int:
    if currency in _NO_PLACES:
        return 0
    return 3 if currency in _THREE_PLACES else 2


async def _answer(call: Awaitable[T]) -> T:
    """Stripe's answer, or one of our errors."""
    try:
        return await call
    except stripe.StripeError as error:
        raise _translated(error) from None


def _query(params: Mapping[str, Any]) -> str:
    """The parameters as Stripe takes them in an address: lists and objects with brackets."""
    pairs: list[tuple[str, Any]] = []
    for name, given in params.items():
        if isinstance(given, Mapping):
            pairs += [(f"{name}[{key}]", part) for key, part in given.items()]
        elif isinstance(given, list):
            pairs += [(f"{name}[{position}]", part) for position, part in enumerate(given)]
        else:
            pairs.append((name, given))
    return f"?{urlencode(pairs)}" if pairs else ""


def _read_error(status: int, body: object, headers: Mapping[str, str]) -> stripe.StripeError:
    """What the client would raise for an answer that is no object."""
    about = body.get("error") if isinstance(body, dict) else None
    code = about.get("code") if isinstance(about, dict) else None
    told: dict[str, Any] = {"http_status": status, "headers": headers, "code": code}
    if status == 429 or (status == 400 and code == "rate_limit"):
        return stripe.RateLimitError(**told)
    if status == 401:
        return stripe.AuthenticationError(**told)
    if status == 403:
        return stripe.PermissionError(**told)
    if status in (400, 404) and isinstance(about, dict):
        return stripe.InvalidRequestError(None, None, **told)  # type: ignore[no-untyped-call]
    return stripe.APIError(**told)


def _translated(error: stripe.StripeError) -> Problem:
    problem = _problem(error)
    # A refusal is a fault of ours, a key that Stripe does not take one of the configuration; the others come and go.
    ours = type(problem) is StripeRefused or isinstance(error, _KEY_ERRORS)
    log = _log.error if ours else _log.warning
    if isinstance(problem, StripeObjectUnknown):
        # Whether that is a fault, whoever looked for the object knows.
        log = _log.info
    log(
        "stripe call failed",
        error=type(error).__name__,
        http_status=error.http_status,
        code=error.code,
        stripe_request_id=error.request_id,
    )
    return problem


def _declined(error: stripe.CardError) -> StripeDeclined:
    about = error.error.to_dict(for_json=True) if error.error is not None else {}
    # The codes are Stripe's own words; its sentences stay here.
    return StripeDeclined(
        decline_code=error.code if error.code != "card_declined" else about.get("decline_code") or error.code,
        intent_id=id_of(about.get("payment_intent")),
    )


def _problem(error: stripe.StripeError) -> Problem:
    if isinstance(error, stripe.CardError):
        return _declined(error)
    if isinstance(error, stripe.InvalidRequestError) and (error.http_status == 404 or error.code == "resource_missing"):
        # Stripe itself says so, and not a page of whatever stands in between.
        return StripeObjectUnknown()
    if error.http_status == 409:
        return StripeBusy()
    if isinstance(error, stripe.APIConnectionError | stripe.RateLimitError | _KEY_ERRORS):
        return StripeUnavailable()
    # A mismatch means that this release sends other parameters than the one that used the key first.
    if isinstance(error, stripe.APIError | stripe.IdempotencyError):
        return StripeFailed()
    return StripeRefused()
