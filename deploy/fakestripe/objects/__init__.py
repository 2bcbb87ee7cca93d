"""The objects of the API, one module per family; a new module is added to the tables here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from deploy.fakestripe.objects import (
    account,
    charges,
    checkout,
    checkout_sessions,
    customers,
    payment_intents,
    payment_methods,
    products,
    refunds,
)
from deploy.fakestripe.operation import Call, Operation
from deploy.fakestripe.store import Json, Store

OPERATIONS: tuple[Operation, ...] = (
    *account.OPERATIONS,
    *charges.OPERATIONS,
    *checkout_sessions.OPERATIONS,
    *customers.OPERATIONS,
    *payment_intents.OPERATIONS,
    *payment_methods.OPERATIONS,
    *products.OPERATIONS,
    *refunds.OPERATIONS,
)

# The table that the id in a member belongs to, for `expand`.
EXPANDABLE: Mapping[str, str] = MappingProxyType(
    {
        "charge": "charge",
        "customer": "customer",
        "default_payment_method": "payment_method",
        "default_price": "price",
        "latest_charge": "charge",
        "payment_intent": "payment_intent",
        "payment_method": "payment_method",
        "price": "price",
        "product": "product",
    }
)

# Members that are there only when they are expanded.
ADDITIONS: Mapping[tuple[str, str], Callable[[Store, Json], Json]] = MappingProxyType(
    {
        ("charge", "refunds"): charges.refunds_of,
        ("checkout.session", "line_items"): checkout_sessions.line_items_of,
    }
)


def expire_sessions(begin: Callable[[], Call], finish: Callable[[Call], None]) -> None:
    """Expire every open session whose time is over, each as an effect of its own."""
    call = begin()
    for session in list(call.store.table("checkout_session").values()):
        if session["status"] == "open" and session["expires_at"] <= call.now:
            checkout.expire(call, session)
            finish(call)
            call = begin()


# What happens by itself when the time has come.
TIMERS: tuple[Callable[[Callable[[], Call], Callable[[Call], None]], None], ...] = (expire_sessions,)
