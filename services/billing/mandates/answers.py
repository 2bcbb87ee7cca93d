"""Stored answers by idempotency key, so that a change whose answer was lost can be repeated and is made once."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.tables import kept_answers
from services.chassis.problems import IdempotencyMismatch

__all__ = ["KeyedRequest", "answer_once"]


class KeyedRequest(NamedTuple):
    """A request: what is asked, by whom and with which idempotency key; without a key nothing is stored."""

    action: str
    mandate_no: int
    actor: str
    key: str | None
    body: str

    @property
    def digest(self) -> bytes:
        """A digest that distinguishes a repeat from another request with the same key."""
        return sha256(self.body.encode()).digest()


async def answer_once(
    connection: AsyncConnection,
    asked: KeyedRequest,
    change: Callable[[], Awaitable[dict[str, Any]]],
    *,
    now: datetime,
) -> dict[str, Any]:
    """Makes the change in the caller's transaction and stores its answer; a repeat gets the stored answer.

    A change that fails stores nothing. Of two concurrent requests with one key the second waits for the first.
    """
    if asked.key is None:
        return await change()
    place = {
        "mandate_no": asked.mandate_no,
        "action": asked.action,
        "actor": asked.actor,
        "idempotency_key": asked.key,
    }
    first = insert(kept_answers).values(**place, digest=asked.digest, at=now).on_conflict_do_nothing()
    of_place = sa.and_(*(kept_answers.c[name] == given for name, given in place.items()))
    if (await connection.execute(first.returning(sa.true()))).first() is None:
        read = sa.select(kept_answers.c.digest, kept_answers.c.answer).where(of_place)
        kept = (await connection.execute(read)).one()
        if kept.digest != asked.digest:
            raise IdempotencyMismatch
        answer: dict[str, Any] = kept.answer
        return answer
    answer = await change()
    await connection.execute(sa.update(kept_answers).where(of_place).values(answer=answer))
    return answer
