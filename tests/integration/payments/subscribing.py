"""What the subscriptions service asks for, and a subscription that was begun by it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from rappen_contracts.registry import (
    QUANTITY_REQUESTED_V1,
    QUANTITY_SETTLED_V1,
    STRIPE_OBSERVED_V1,
    STRIPE_REQUESTED_V1,
    STRIPE_SETTLED_V1,
)
from rappen_contracts.stripe.v1 import (
    Quantities,
    QuantityRequested,
    QuantitySettled,
    StripeObserved,
    StripePlan,
    StripeRequested,
    StripeSettled,
)
from rappen_contracts.types import NonNegativeMoney
from tests.integration.payments.world import ORIGIN, World
from tests.support.events import new_mandate
from tests.support.waiting import eventually

__all__ = ["Subscribed", "plan"]


def plan(key: str = "TEAM", *, member: str = "29.00", instance: str = "19.00") -> StripePlan:
    """A plan by its prices in CHF."""
    return StripePlan(
        key=key,
        label_de="Team",
        label_en="Team",
        price_per_user=NonNegativeMoney(amount=Decimal(member), currency="CHF"),
        price_per_feature_instance=NonNegativeMoney(amount=Decimal(instance), currency="CHF"),
        billing_period="month",
    )


@dataclass
class Subscribed:
    """A subscription of a fresh mandate."""

    world: World
    mandate_id: str = field(default_factory=new_mandate)
    id: UUID = field(default_factory=uuid4)
    session_id: str = ""
    stripe_id: str = ""

    def action(self, action: str, **more: Any) -> StripeRequested:
        """Something that the subscriptions service asks for."""
        now = datetime.now(UTC)
        if action == "checkout":
            more = {
                "plan": plan(),
                "quantities": Quantities(members=2, feature_instances=1),
                "success_url": f"{ORIGIN}/plans?success=true",
                "cancel_url": f"{ORIGIN}/plans?canceled=true",
                **more,
            }
        return StripeRequested.model_validate(
            {
                "mandate_id": self.mandate_id,
                "subscription_id": self.id,
                "request_id": uuid4(),
                "action": action,
                "requested_at": now,
                "expires_at": now + timedelta(minutes=5),
                "cause": "tests",
                **more,
            }
        )

    def quantities(self, version: int, members: int, feature_instances: int, **more: Any) -> QuantityRequested:
        """Quantities that it is to have."""
        return QuantityRequested.model_validate(
            {
                "mandate_id": self.mandate_id,
                "subscription_id": self.id,
                "request_id": uuid4(),
                "version": version,
                "quantities": Quantities(members=members, feature_instances=feature_instances),
                "requested_at": datetime.now(UTC),
                "cause": "tests",
                **more,
            }
        )

    async def settled(self, request: StripeRequested) -> StripeSettled:
        """Asks, and gives the one answer."""
        await self.world.ask(STRIPE_REQUESTED_V1, request)
        return await self.answer(request)

    async def answer(self, request: StripeRequested) -> StripeSettled:
        """The one answer to what was asked."""

        async def answers() -> list[StripeSettled]:
            told = await self.world.told(STRIPE_SETTLED_V1, self.mandate_id)
            return [each for each in told if each.request_id == request.request_id]

        (settled,) = await eventually(answers, what="an answer")
        return settled

    async def set(self, request: QuantityRequested) -> QuantitySettled:
        """Asks for quantities, and gives the one answer."""
        await self.world.ask(QUANTITY_REQUESTED_V1, request)
        return await self.set_answer(request)

    async def set_answer(self, request: QuantityRequested) -> QuantitySettled:
        """The one answer to what was asked."""

        async def answers() -> list[QuantitySettled]:
            told = await self.world.told(QUANTITY_SETTLED_V1, self.mandate_id)
            return [each for each in told if each.request_id == request.request_id]

        (settled,) = await eventually(answers, what="an answer")
        return settled

    async def observed(self, look: Any = None, *, what: str = "an observation") -> StripeObserved:
        """Waits for an observation of which `look` is true, and gives the newest such."""

        async def found() -> list[StripeObserved]:
            told: list[StripeObserved] = await self.world.told(STRIPE_OBSERVED_V1, self.mandate_id)
            return [each for each in told if look is None or look(each)]

        return max(await eventually(found, what=what), key=lambda each: each.version)

    async def begin(self, **more: Any) -> None:
        """Opens the checkout and pays it."""
        settled = await self.settled(self.action("checkout", **more))
        assert (settled.outcome, settled.code) == ("done", "CHECKOUT_OPENED")
        assert settled.checkout_session_id is not None
        self.session_id = settled.checkout_session_id
        await self.world.pay(self.session_id)
        begun = await self.observed(lambda each: each.checkout and each.checkout.state == "completed")
        assert begun.subscription is not None
        self.stripe_id = begun.subscription.stripe_subscription_id

    async def at_stripe(self) -> Any:
        """The subscription as the fake has it."""
        found = await self.world.stripe.v1.subscriptions.retrieve_async(self.stripe_id)
        return found.to_dict(for_json=True)
