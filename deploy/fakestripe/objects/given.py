"""Objects put as they are, of whatever shape: they are answered so, and nothing happens to them by time."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from deploy.fakestripe.objects.payment_methods import GOOD_CARD
from deploy.fakestripe.store import Json, Store

# The table of each kind that can be put.
TABLES: Mapping[str, str] = MappingProxyType(
    {
        "charge": "charge",
        "checkout.session": "checkout_session",
        "customer": "customer",
        "dispute": "dispute",
        "event": "event",
        "invoice": "invoice",
        "invoice_payment": "invoice_payment",
        "invoiceitem": "invoiceitem",
        "payment_intent": "payment_intent",
        "payment_method": "payment_method",
        "price": "price",
        "product": "product",
        "refund": "refund",
        "setup_intent": "setup_intent",
        "subscription": "subscription",
    }
)


def put(store: Store, given: Json) -> None:
    """Store an object as it is, in place of the one of its id."""
    store.table(TABLES[given["object"]])[given["id"]] = given
    store.table("given")[given["id"]] = {"id": given["id"]}
    if given["object"] == "payment_method":
        store.table("test_card").setdefault(given["id"], {"id": given["id"], "card": GOOD_CARD.name})
    if given["object"] == "invoice":
        lines = given.get("lines") or {}
        store.table("invoice_lines")[given["id"]] = {"id": given["id"], "data": list(lines.get("data") or [])}


def own(store: Store, table: str) -> list[Json]:
    """Return the objects of a table that were made here and therefore have every member, oldest first."""
    return [row for row in store.table(table).values() if not is_given(store, row)]


def looked_at(store: Store, table: str) -> list[Json]:
    """Return the same for who changes none of them."""
    return [row for row in store.table(table).look() if not is_given(store, row)]


def is_given(store: Store, row: Json) -> bool:
    """Tell whether an object was put as it is."""
    return row["id"] in store.table("given")
