"""Mirrors a plan of the catalogue to Stripe; doing it again changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from rappen_contracts.stripe.v1 import StripePlan
from services.payments.plans.domain import FEATURE_INSTANCES, MEMBERS, PlanPrices, differs, price_orders, product_order
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.prices import (
    Price,
    PriceOrder,
    create_price,
    put_product,
    read_prices,
    read_product_name,
)

__all__ = ["Drift", "compare_plan", "drift_lines", "mirror_plan"]


@dataclass(frozen=True, slots=True)
class Drift:
    """Something at Stripe that is not as the catalogue has it: `found` is None where it is missing."""

    plan_key: str
    what: str
    wanted: str
    found: str | None


async def compare_plan(stripe: StripeGateway, plan: StripePlan) -> list[Drift]:
    """What is missing at Stripe or differs there; changes nothing."""
    product, orders = product_order(plan), price_orders(plan)
    name = await read_product_name(stripe, product.id)
    prices = await read_prices(stripe, [order.lookup_key for order in orders])
    found = [] if name == product.name else [Drift(plan.key, f"product {product.id}", product.name, name)]
    for order in orders:
        price = prices.get(order.lookup_key)
        if price is None or differs(price, order):
            wanted = _shown(order.amount, order.interval)
            there = None if price is None else _shown(price.amount, price.interval)
            found.append(Drift(plan.key, f"price {order.lookup_key}", wanted, there))
    return found


async def mirror_plan(stripe: StripeGateway, plan: StripePlan, *, also_name: bool = False) -> PlanPrices:
    """Makes what is missing, and new prices in place of those that differ; gives the two prices.

    Subscriptions that were begun with an earlier price keep it. `also_name` looks at the product's name too.
    """
    orders = price_orders(plan)
    prices = await read_prices(stripe, [order.lookup_key for order in orders])
    if also_name or any(_is_stale(prices, order) for order in orders):
        await _put_product(stripe, plan)
    ids = {order.kind: (await _price(stripe, order, prices.get(order.lookup_key))).id for order in orders}
    return PlanPrices(members=ids[MEMBERS], feature_instances=ids[FEATURE_INSTANCES])


def _is_stale(prices: dict[str, Price], order: PriceOrder) -> bool:
    price = prices.get(order.lookup_key)
    return price is None or differs(price, order)


async def _put_product(stripe: StripeGateway, plan: StripePlan) -> None:
    product = product_order(plan)
    name = await read_product_name(stripe, product.id)
    if name != product.name:
        # A key is plain ASCII, a name is not.
        key = f"product:{product.id}:{sha256(f'{name}/{product.name}'.encode()).hexdigest()}"
        await put_product(stripe, product, exists=name is not None, idempotency_key=key)


async def _price(stripe: StripeGateway, order: PriceOrder, found: Price | None) -> Price:
    if found is not None and not differs(found, order):
        return found
    # From the price that it replaces: going back to an earlier amount within a day makes a new price, too.
    replaced = "none" if found is None else found.id
    key = f"price:{order.lookup_key}:{order.amount.normalize():f}:{order.interval}:{replaced}"
    return await create_price(stripe, order, idempotency_key=key)


def _shown(amount: object, interval: str | None) -> str:
    return f"CHF {amount} per {interval}"


def drift_lines(drifts: Sequence[Drift]) -> list[str]:
    """A line for each, for people."""
    return [
        f"{drift.plan_key}  {drift.what}: {drift.wanted} is wanted, {drift.found or 'nothing'} is there"
        for drift in drifts
    ]
