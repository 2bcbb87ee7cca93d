"""The objects of the API, one module per family; a new module is added to the tables here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

from deploy.fakestripe.objects import (
    account,
    charges,
    checkout,
    checkout_sessions,
    customers,
    disputes,
    given,
    invoice_api,
    invoice_item_api,
    mandates,
    payment_intents,
    payment_methods,
    portal,
    products,
    refunds,
    search,
    setup_intents,
    subscription_api,
    subscription_cycle,
    subscription_items,
)
from deploy.fakestripe.operation import Call, Operation
from deploy.fakestripe.store import Json, Store

OPERATIONS: tuple[Operation, ...] = (
    # Before those that take an id in the same place.
    *search.OPERATIONS,
    *account.OPERATIONS,
    *charges.OPERATIONS,
    *checkout_sessions.OPERATIONS,
    *customers.OPERATIONS,
    *disputes.OPERATIONS,
    *invoice_api.OPERATIONS,
    *invoice_item_api.OPERATIONS,
    *mandates.OPERATIONS,
    *payment_intents.OPERATIONS,
    *payment_methods.OPERATIONS,
    *portal.OPERATIONS,
    *products.OPERATIONS,
    *refunds.OPERATIONS,
    *setup_intents.OPERATIONS,
    *subscription_api.OPERATIONS,
    *subscription_items.OPERATIONS,
)

# The table that the id in a member belongs to, for `expand`.
EXPANDABLE: Mapping[str, str] = MappingProxyType(
    {
        "charge": "charge",
        "customer": "customer",
        "default_payment_method": "payment_method",
        "default_price": "price",
        "dispute": "dispute",
        "invoice": "invoice",
        "latest_invoice": "invoice",
        "latest_charge": "charge",
        "mandate": "mandate",
        "payment_intent": "payment_intent",
        "payment_method": "payment_method",
        "price": "price",
        "product": "product",
        "setup_intent": "setup_intent",
        "subscription": "subscription",
    }
)

# Members that are there only when they are expanded.
ADDITIONS: Mapping[tuple[str, str], Callable[[Store, Json], Json | None]] = MappingProxyType(
    {
        ("charge", "refunds"): charges.refunds_of,
        ("invoice", "confirmation_secret"): invoice_api.confirmation_of,
        ("invoice", "payments"): invoice_api.payments_of,
        ("checkout.session", "line_items"): checkout_sessions.line_items_of,
    }
)


def due_for_sessions(store: Store) -> Iterator[tuple[int, Callable[[Call], None]]]:
    """Give when each open session expires."""
    for session in given.looked_at(store, "checkout_session"):
        if session["status"] == "open":
            yield session["expires_at"], partial(_expire, session)


def _expire(session: Json, call: Call) -> None:
    checkout.expire(call, session)


# What happens by itself, and when; see `timers.run_due`.
TIMERS: tuple[Callable[[Store], Iterator[tuple[int, Callable[[Call], None]]]], ...] = (
    due_for_sessions,
    disputes.due_for_disputes,
    refunds.due_for_refunds,
    subscription_cycle.due_for_subscriptions,
    subscription_cycle.due_for_invoices,
)
