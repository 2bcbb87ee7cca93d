"""Products and recurring prices at Stripe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from services.payments.stripe.errors import StripeObjectUnknown
from services.payments.stripe.gateway import StripeGateway
from services.payments.stripe.json_values import id_of, metadata_of
from services.payments.stripe.views import view

__all__ = ["Price", "PriceOrder", "ProductOrder", "create_price", "put_product", "read_prices", "read_product_name"]

CURRENCY = "chf"


@dataclass(frozen=True, slots=True)
class Price:
    """A recurring price; `amount` is CHF for one, None where Stripe has it in another form."""

    id: str
    lookup_key: str
    product_id: str | None
    amount: Decimal | None
    interval: str | None
    kind: str | None


@dataclass(frozen=True, slots=True)
class PriceOrder:
    """A price as it is to be; `amount` is CHF for one."""

    lookup_key: str
    product_id: str
    amount: Decimal
    interval: str
    kind: str
    plan_key: str
    nickname: str


@dataclass(frozen=True, slots=True)
class ProductOrder:
    """A product as it is to be."""

    id: str
    name: str
    plan_key: str


async def read_prices(stripe: StripeGateway, lookup_keys: Sequence[str]) -> dict[str, Price]:
    """The active prices by lookup key."""
    found = await stripe.read_list("prices", lookup_keys=list(lookup_keys), active=True, limit=100)
    return {each["lookup_key"]: _price(each) for each in found}


async def create_price(stripe: StripeGateway, order: PriceOrder, *, idempotency_key: str) -> Price:
    """Makes a price, which takes over its lookup key where another one has it."""
    params = {
        "currency": CURRENCY,
        "product": order.product_id,
        # In Rappen, exact: a price may have parts of one.
        "unit_amount_decimal": format(order.amount.scaleb(2).normalize(), "f"),
        "recurring": {"interval": order.interval},
        "lookup_key": order.lookup_key,
        "transfer_lookup_key": True,
        "nickname": order.nickname,
        "metadata": {"kind": order.kind, "planKey": order.plan_key},
    }
    options = {"idempotency_key": idempotency_key}
    return _price(await stripe.ask(lambda v1: v1.prices.create_async(params, options)))


async def read_product_name(stripe: StripeGateway, product_id: str) -> str | None:
    """What a product is called; None where there is none of that id."""
    try:
        product = await stripe.read("products", product_id)
    except StripeObjectUnknown:
        return None
    return str(product.get("name") or "")


async def put_product(stripe: StripeGateway, order: ProductOrder, *, exists: bool, idempotency_key: str) -> None:
    """Makes a product of an id of ours, or gives the one that is there its name."""
    options = {"idempotency_key": idempotency_key}
    if exists:
        await stripe.ask(lambda v1: v1.products.update_async(order.id, {"name": order.name}, options))
        return
    params = {"id": order.id, "name": order.name, "metadata": {"planKey": order.plan_key}}
    await stripe.ask(lambda v1: v1.products.create_async(params, options))


@view
def _price(found: Mapping[str, Any]) -> Price:
    recurring = found.get("recurring")
    exact = found.get("unit_amount_decimal")
    per_one = found.get("currency") == CURRENCY and exact is not None
    return Price(
        id=found["id"],
        lookup_key=found.get("lookup_key") or "",
        product_id=id_of(found.get("product")),
        amount=Decimal(str(exact)).scaleb(-2) if per_one else None,
        interval=_interval(recurring) if isinstance(recurring, Mapping) else None,
        kind=metadata_of(found).get("kind"),
    )


def _interval(recurring: Mapping[str, Any]) -> str | None:
    return recurring.get("interval") if recurring.get("interval_count", 1) == 1 else None
