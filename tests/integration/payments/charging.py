"""A mandate whose recharges are charged to a stored method, and what billing asks for it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from rappen_contracts.billing.v1 import RechargeRequested
from rappen_contracts.payment.v1 import PaymentFailed
from rappen_contracts.registry import PAYMENT_FAILED_V1, RECHARGE_REQUESTED_V1
from rappen_contracts.types import NonNegativeMoney
from tests.integration.payments.world import ORIGIN, Person, World

__all__ = ["Recharging"]


@dataclass
class Recharging:
    """The mandate of a person."""

    world: World
    person: Person = field(init=False)

    def __post_init__(self) -> None:
        self.person = self.world.person()

    @property
    def mandate_id(self) -> str:
        """The mandate."""
        return self.person.mandate_id

    async def set_up(self, method: str | None = None) -> str:
        """Saves a method by a setup session; another test card then takes its place. Gives the customer's id."""
        path = f"/api/payments/setup/{self.mandate_id}"
        answer = await self.world.http.post(path, json={"returnUrl": f"{ORIGIN}/billing"}, headers=self.person.headers)
        assert answer.status_code == 200, answer.text
        session_id = await self.world.session_id_of(answer.json()["redirectUrl"])
        await self.world.pay(session_id)
        assert "METHOD_SAVED" in await self.world.processed(session_id)
        customer_id = str((await self.customer())["stripe_customer_id"])
        if method is not None:
            stripe = self.world.stripe.v1
            attached = await stripe.payment_methods.attach_async(method, {"customer": customer_id})
            chosen: Any = {"invoice_settings": {"default_payment_method": attached.id}}
            await stripe.customers.update_async(customer_id, chosen)
        return customer_id

    async def customer(self) -> dict[str, Any]:
        """The row of the customer."""
        (row,) = await self.world.rows("SELECT * FROM customers WHERE mandate_id = $1", self.mandate_id)
        return row

    def request(self, amount: str = "20", **more: Any) -> RechargeRequested:
        """What billing asks for."""
        now = datetime.now(UTC)
        return RechargeRequested.model_validate(
            {
                "mandate_id": self.mandate_id,
                "recharge_id": uuid4(),
                "account_id": "account",
                "amount": NonNegativeMoney(amount=Decimal(amount), currency="CHF"),
                "requested_at": now,
                "expires_at": now + timedelta(minutes=10),
                "cause": "tests",
                **more,
            }
        )

    async def ask(self, *requests: RechargeRequested) -> None:
        """Asks for recharges."""
        await self.world.ask(RECHARGE_REQUESTED_V1, *requests)

    async def failed(self, *, count: int = 1) -> list[PaymentFailed]:
        """What failed of it."""
        return await self.world.told(PAYMENT_FAILED_V1, self.mandate_id, count=count)

    async def intents(self) -> list[Any]:
        """The payments that Stripe has of it."""
        customer_id = (await self.customer())["stripe_customer_id"]
        found = await self.world.stripe.v1.payment_intents.list_async({"customer": customer_id, "limit": 100})
        return list(found.data)

    async def outcome(self, request: RechargeRequested) -> Any:
        """The outcome of a request, once it is settled."""
        rows = await self.world.rows("SELECT outcome FROM stripe_requests WHERE request_id = $1", request.recharge_id)
        return rows and rows[0]["outcome"]
