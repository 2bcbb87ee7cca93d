"""Customers and their payment methods, each statement in the caller's transaction."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.customers.domain import Customer
from services.payments.customers.tables import customers, seen_methods
from services.payments.observations import FetchedTooEarly, observations
from services.payments.stripe.customers import PaymentMethod

__all__ = [
    "ensure_row",
    "find_customer",
    "find_mandate",
    "forget_customer",
    "note_method",
    "renew_stripe_attempt",
    "save_customer_id",
    "want_method",
]

_COLUMNS = [customers.c[name] for name in Customer.__dataclass_fields__]


async def find_customer(connection: AsyncConnection, mandate_id: str) -> Customer | None:
    """The customer of a mandate."""
    row = (await connection.execute(sa.select(*_COLUMNS).where(customers.c.mandate_id == mandate_id))).first()
    return None if row is None else Customer(*row)


async def find_mandate(connection: AsyncConnection, stripe_customer_id: str) -> str | None:
    """The mandate of a customer of Stripe's."""
    query = sa.select(customers.c.mandate_id).where(customers.c.stripe_customer_id == stripe_customer_id)
    found: str | None = await connection.scalar(query)
    return found


async def ensure_row(connection: AsyncConnection, mandate_id: str, now: datetime) -> Customer:
    """The customer of a mandate, whose row is made where there is none."""
    await connection.execute(
        insert(customers)
        .values(mandate_id=mandate_id, created_at=now, updated_at=now)
        .on_conflict_do_nothing(index_elements=["mandate_id"])
    )
    row = (await connection.execute(sa.select(*_COLUMNS).where(customers.c.mandate_id == mandate_id))).one()
    return Customer(*row)


async def save_customer_id(connection: AsyncConnection, mandate_id: str, stripe_customer_id: str, now: datetime) -> str:
    """Notes the id that Stripe gave, unless there is one; gives the one that holds."""
    values = {
        "stripe_customer_id": sa.func.coalesce(customers.c.stripe_customer_id, stripe_customer_id),
        "updated_at": now,
    }
    saved = await connection.execute(
        sa.update(customers)
        .where(customers.c.mandate_id == mandate_id)
        .values(values)
        .returning(customers.c.stripe_customer_id)
    )
    return str(saved.scalar_one())


async def renew_stripe_attempt(connection: AsyncConnection, customer: Customer) -> None:
    """Gives the customer another key at Stripe, unless somebody else has done so meanwhile."""
    same = (customers.c.mandate_id == customer.mandate_id, customers.c.stripe_attempt == customer.stripe_attempt)
    await connection.execute(sa.update(customers).where(*same).values(stripe_attempt=customer.stripe_attempt + 1))


async def forget_customer(connection: AsyncConnection, stripe_customer_id: str, now: datetime) -> bool:
    """Forgets a customer that Stripe does not have any more, with their method, so that the next payment makes another
    one, by another key; False for one that is not ours."""
    values = {
        "stripe_customer_id": None,
        "payment_method_id": None,
        "stripe_attempt": customers.c.stripe_attempt + 1,
        "updated_at": now,
    }
    forgotten = await connection.execute(
        sa.update(customers).where(customers.c.stripe_customer_id == stripe_customer_id).values(values)
    )
    return forgotten.rowcount == 1


async def note_method(connection: AsyncConnection, method: PaymentMethod, *, number: int, now: datetime) -> bool:
    """Notes whose a method is by a look that was begun under that number, and with it which method of its customer is
    charged; False where nobody of ours is concerned. Raises FetchedTooEarly where it was looked at since."""
    if method.customer_id is not None and await find_mandate(connection, method.customer_id) is None:
        return False
    had_it = None if method.customer_id is not None else await _who_had(connection, method.id)
    seen = insert(seen_methods).values(
        method_id=method.id,
        stripe_customer_id=method.customer_id,
        created_at=method.created_at,
        version=observations.next_value(),
        seen_at=now,
    )
    changed = {name: seen.excluded[name] for name in ("stripe_customer_id", "created_at", "version", "seen_at")}
    noted = await connection.execute(
        seen.on_conflict_do_update(
            index_elements=["method_id"], set_=changed, where=seen_methods.c.version <= number
        ).returning(seen_methods.c.method_id)
    )
    if noted.first() is None:
        raise FetchedTooEarly
    return await _choose_method(connection, method, had_it, now)


async def _who_had(connection: AsyncConnection, method_id: str) -> str | None:
    """The customer at Stripe whose the method was by the look before, which is held until the end of the
    transaction."""
    seen = sa.select(seen_methods.c.stripe_customer_id).where(seen_methods.c.method_id == method_id).with_for_update()
    found: str | None = await connection.scalar(seen)
    return found


async def _choose_method(connection: AsyncConnection, method: PaymentMethod, had_it: str | None, now: datetime) -> bool:
    """Has the customer charged to the newest method that is still theirs."""
    whose = customers.c.stripe_customer_id == (method.customer_id or had_it)
    if method.customer_id is None:
        whose |= customers.c.payment_method_id == method.id
    # Held before the methods are read: of two that are noted at the same time, the second sees both. So is the customer
    # of one that is taken away and not charged: it may just be chosen in the place of another one.
    held = sa.select(customers.c.mandate_id, customers.c.stripe_customer_id).where(whose).with_for_update()
    customer = (await connection.execute(held)).first()
    if customer is None:
        return False
    newest = (
        sa.select(seen_methods.c.method_id)
        .where(seen_methods.c.stripe_customer_id == customer.stripe_customer_id)
        .order_by(seen_methods.c.created_at.desc().nulls_last(), seen_methods.c.method_id.desc())
        .limit(1)
    )
    chosen = await connection.scalar(newest)
    values = {"payment_method_id": chosen, "updated_at": now} | ({} if chosen is None else {"wants_method": False})
    await connection.execute(sa.update(customers).where(customers.c.mandate_id == customer.mandate_id).values(values))
    return True


async def want_method(connection: AsyncConnection, mandate_id: str, now: datetime) -> None:
    """Notes that a recharge found no method."""
    await ensure_row(connection, mandate_id, now)
    await connection.execute(
        sa.update(customers).where(customers.c.mandate_id == mandate_id).values(wants_method=True, updated_at=now)
    )
