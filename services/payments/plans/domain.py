"""A plan as Stripe has it: one product with two prices, one for members and one for feature instances."""

from collections.abc import Sequence
from dataclasses import dataclass

from rappen_contracts.stripe.v1 import StripePlan
from services.payments.stripe.prices import Price, PriceOrder, ProductOrder

__all__ = ["FEATURE_INSTANCES", "MEMBERS", "PlanPrices", "differs", "price_orders", "product_order"]

MEMBERS = "members"
FEATURE_INSTANCES = "feature_instances"
_NICKNAMES = {MEMBERS: "per member", FEATURE_INSTANCES: "per feature instance"}


@dataclass(frozen=True, slots=True)
class PlanPrices:
    """The ids of a plan's two prices."""

    members: str
    feature_instances: str


def product_order(plan: StripePlan) -> ProductOrder:
    """The product of a plan; its id is made from the plan's key, so there is one however often it is asked for."""
    return ProductOrder(id=f"rappen_{plan.key}", name=plan.label_en, plan_key=plan.key)


def price_orders(plan: StripePlan) -> Sequence[PriceOrder]:
    """The two prices of a plan."""
    amounts = {MEMBERS: plan.price_per_user, FEATURE_INSTANCES: plan.price_per_feature_instance}
    return [
        PriceOrder(
            lookup_key=f"rappen_{plan.key}_{kind}",
            product_id=product_order(plan).id,
            amount=money.amount,
            interval=plan.billing_period,
            kind=kind,
            plan_key=plan.key,
            nickname=f"{plan.label_en}, {_NICKNAMES[kind]}",
        )
        for kind, money in amounts.items()
    ]


def differs(price: Price, order: PriceOrder) -> bool:
    """Whether a price of Stripe's is not the one that the catalogue has. A price at Stripe never changes its amount."""
    wanted = (order.amount, order.interval, order.kind, order.product_id)
    return (price.amount, price.interval, price.kind, price.product_id) != wanted
