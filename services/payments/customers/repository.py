"""Customers, each statement in the caller's transaction."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.customers.domain import Customer
from services.payments.customers.tables import customers

__all__ = [
    "ensure_row",
    "find_customer",
    "find_mandate",
    "forget_customer",
    "forget_method",
    "renew_stripe_attempt",
    "save_customer_id",
    "save_method",
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


async def save_method(connection: AsyncConnection, stripe_customer_id: str, method_id: str, now: datetime) -> bool:
    """Notes the method that recharges are charged to; False for a customer that is not ours."""
    values = {"payment_method_id": method_id, "wants_method": False, "updated_at": now}
    saved = await connection.execute(
        sa.update(customers).where(customers.c.stripe_customer_id == stripe_customer_id).values(values)
    )
    return saved.rowcount == 1


async def forget_method(connection: AsyncConnection, method_id: str, now: datetime) -> str | None:
    """Forgets a method that its owner took away; gives the mandate, None where nobody has it."""
    forgotten = await connection.execute(
        sa.update(customers)
        .where(customers.c.payment_method_id == method_id)
        .values(payment_method_id=None, updated_at=now)
        .returning(customers.c.mandate_id)
    )
    found: str | None = forgotten.scalars().first()
    return found


async def want_method(connection: AsyncConnection, mandate_id: str, now: datetime) -> None:
    """Notes that a recharge found no method."""
    await ensure_row(connection, mandate_id, now)
    await connection.execute(
        sa.update(customers).where(customers.c.mandate_id == mandate_id).values(wants_method=True, updated_at=now)
    )
