"""The part of the control surface that plays payers and banks: cards, disputes, refunds, dunning, objects as given."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from deploy.fakestripe.api import Api
from deploy.fakestripe.control_errors import ControlError
from deploy.fakestripe.control_webhooks import Webhooks
from deploy.fakestripe.objects import disputes, mandates, refunds
from deploy.fakestripe.objects.given import TABLES, put
from deploy.fakestripe.objects.invoices import RETRY_DAYS
from deploy.fakestripe.objects.payment_methods import named_card
from deploy.fakestripe.operation import Call
from deploy.fakestripe.store import Json

_REASONS = Literal[
    "bank_cannot_process",
    "check_returned",
    "credit_not_processed",
    "customer_initiated",
    "debit_not_authorized",
    "duplicate",
    "fraudulent",
    "general",
    "incorrect_account_details",
    "insufficient_funds",
    "product_not_received",
    "product_unacceptable",
    "subscription_canceled",
    "unrecognized",
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    webhooks: Webhooks = Field(default_factory=Webhooks)


class Card(_Body):
    """Which test card stands behind a payment method from now on."""

    card: str


class Revocation(_Body):
    """What becomes of a mandate."""

    status: Literal["inactive"]


class Dispute(_Body):
    """Whose charge is disputed, over how much (all that is not refunded) and why; an inquiry withdraws nothing."""

    charge: str | None = None
    payment_intent: str | None = None
    amount: Annotated[int | None, Field(ge=1)] = None
    reason: _REASONS = "fraudulent"
    inquiry: bool = False


class Decision(_Body):
    """Who wins a dispute."""

    outcome: Literal["won", "lost"]


class RefundOutcome(_Body):
    """How a refund goes on."""

    status: Literal["pending", "requires_action", "succeeded", "failed", "canceled"]


class Dunning(BaseModel):
    """The days from each failed attempt at a renewal to the next, and what becomes of the subscription then.

    `invoice_draft_s` is how long the invoice of a renewal stays a draft; an hour at Stripe.
    """

    model_config = ConfigDict(extra="forbid")

    retry_days: list[Annotated[int, Field(ge=1, le=60)]] = Field(default=list(RETRY_DAYS), max_length=8)
    then: Literal["cancel", "unpaid", "past_due"] = "cancel"
    invoice_draft_s: int = Field(default=0, ge=0, le=72 * 3600)


class GivenObject(BaseModel):
    """An object as Stripe would answer it; whatever it has is kept as it is."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(min_length=1, max_length=255)
    object: str


class World:
    """Carries out what payers and banks are told to do."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._store = api.store

    def router(self) -> APIRouter:
        """Return the routes under /_control."""
        router = APIRouter(prefix="/_control")
        router.add_api_route("/payment_methods/{key}", self.change_card, methods=["POST"])
        router.add_api_route("/mandates/{key}", self.revoke_mandate, methods=["POST"])
        router.add_api_route("/disputes", self.dispute, methods=["POST"])
        router.add_api_route("/disputes/{key}", self.decide_dispute, methods=["POST"])
        router.add_api_route("/refunds/{key}", self.decide_refund, methods=["POST"])
        router.add_api_route("/dunning", self.set_dunning, methods=["POST"])
        router.add_api_route("/objects", self.put_object, methods=["POST"])
        return router

    async def change_card(self, key: str, body: Card) -> Json:
        """Let another test card stand behind a payment method: one that has run dry, or is good again."""
        method = self._find("payment_method", key)
        card = named_card(body.card)
        if card is None:
            raise ControlError(422, f"card: there is no test card {body.card}")
        if method.get("type") != "card":
            raise ControlError(409, f"{key} is no card")
        self._store.table("test_card")[key] |= {"card": card.name}
        self._store.touch()
        await self._store.saved()
        return method

    async def revoke_mandate(self, key: str, body: Revocation) -> Json:
        """Let the holder of a method end in the app that it may be charged without them."""
        mandate = self._find("mandate", key)
        if mandate["status"] == body.status:
            raise ControlError(409, f"mandate {key} is {body.status} already")
        call = self._api.begin()
        mandates.revoke(call, mandate)
        await self._finish(call, body)
        return mandate

    async def dispute(self, body: Dispute) -> Json:
        """Let the holder of a card have a charge taken back."""
        charge = self._charge(body)
        left = charge["amount"] - charge["amount_refunded"]
        amount = left if body.amount is None else body.amount
        if charge["status"] != "succeeded" or not 0 < amount <= left:
            raise ControlError(409, f"charge {charge['id']} cannot be disputed over {amount}")
        if any(row["charge"] == charge["id"] for row in self._store.table("dispute").values()):
            raise ControlError(409, f"charge {charge['id']} has been disputed before")
        call = self._api.begin()
        dispute = disputes.new_dispute(call, charge, amount, body.reason, inquiry=body.inquiry)
        await self._finish(call, body)
        return dispute

    def _charge(self, body: Dispute) -> Json:
        if (body.charge is None) == (body.payment_intent is None):
            raise ControlError(422, "charge: give it, or payment_intent")
        if body.charge is not None:
            return self._find("charge", body.charge)
        intent = self._find("payment_intent", str(body.payment_intent))
        if intent["latest_charge"] is None:
            raise ControlError(409, f"{intent['id']} has no charge")
        return self._find("charge", intent["latest_charge"])

    async def decide_dispute(self, key: str, body: Decision) -> Json:
        """Let the bank decide a dispute."""
        dispute = self._find("dispute", key)
        if dispute["status"] not in disputes.OPEN:
            raise ControlError(409, f"dispute {key} is {dispute['status']} already")
        call = self._api.begin()
        disputes.decide(call, dispute, body.outcome)
        await self._finish(call, body)
        return dispute

    async def decide_refund(self, key: str, body: RefundOutcome) -> Json:
        """Let a refund go on: one that was made can fail still."""
        refund = self._find("refund", key)
        if refund["status"] in ("failed", "canceled") or refund["status"] == body.status:
            raise ControlError(409, f"refund {key} is {refund['status']} already")
        call = self._api.begin()
        refunds.decide(call, refund, body.status)
        await self._finish(call, body)
        return refund

    async def set_dunning(self, body: Dunning) -> Json:
        """Say how renewals that fail are tried again, for all that fail from now on."""
        self._store.table("account_settings")["dunning"] = {"id": "dunning", **body.model_dump()}
        self._store.touch()
        await self._store.saved()
        return body.model_dump()

    async def put_object(self, body: GivenObject) -> Json:
        """Keep an object as it is, so that a later fetch answers it; nothing happens to it by time."""
        given: dict[str, Any] = body.model_dump()
        if body.object not in TABLES:
            raise ControlError(422, f"object: one of {', '.join(sorted(TABLES))}")
        try:
            orjson.dumps(given)
        except TypeError as error:
            raise ControlError(422, f"the object cannot be kept: {error}") from error
        put(self._store, given)
        self._store.touch()
        await self._store.saved()
        return given

    def _find(self, table: str, key: str) -> Json:
        row = self._store.table(table).get(key)
        if row is None:
            raise ControlError(404, f"no such {table}: {key}")
        return row

    async def _finish(self, call: Call, body: _Body) -> None:
        self._api.finish(call, body.webhooks.disturbance())
        await self._store.saved()
