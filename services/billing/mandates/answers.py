"""Stored answers by idempotency key, so that a change whose answer was lost can be repeated and is made once."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.tables import kept_answers
from services.chassis.database import driver_connection
from services.chassis.problems import IdempotencyMismatch

__all__ = ["PLATFORM", "KeyedPlace", "KeyedRequest", "answer_once", "keep_answers", "kept_answers_of"]

# In place of a mandate's number for what is no one mandate's, or names its mandate in the body only: a key is for one
# body, so it is not for another mandate too.
PLATFORM: Final = 0


class KeyedPlace(NamedTuple):
    """Where the answer to a request is stored: a key is one caller's, for one action in one mandate."""

    mandate_no: int
    action: str
    actor: str
    idempotency_key: str


class KeyedRequest(NamedTuple):
    """A request: what is asked, by whom and with which idempotency key; without a key nothing is stored."""

    action: str
    mandate_no: int
    actor: str
    key: str | None
    body: str

    @property
    def place(self) -> KeyedPlace | None:
        """Where its answer is stored; None without a key."""
        return None if self.key is None else KeyedPlace(self.mandate_no, self.action, self.actor, self.key)

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
    if asked.place is None:
        return await change()
    place = asked.place._asdict()
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


async def kept_answers_of(
    connection: AsyncConnection, asked: Sequence[KeyedRequest]
) -> dict[KeyedPlace, tuple[bytes, dict[str, Any]]]:
    """The digests and answers that are stored for requests, by their places, for work on many at once: under the lock
    of their mandates, so that nobody stores another one meanwhile. `keep_answers` stores those that are new."""
    places = [request.place for request in asked if request.place is not None]
    if not places:
        return {}
    rows = await driver_connection(connection).fetch(
        "SELECT k.mandate_no, k.action, k.actor, k.idempotency_key, k.digest, k.answer"
        " FROM unnest($1::int[], $2::text[], $3::text[], $4::text[])"
        " AS given (mandate_no, action, actor, idempotency_key)"
        " JOIN kept_answers k ON k.mandate_no = given.mandate_no AND k.action = given.action"
        " AND k.actor = given.actor AND k.idempotency_key = given.idempotency_key",
        *(list(column) for column in zip(*places, strict=True)),
    )
    return {KeyedPlace(*place): (digest, answer) for *place, digest, answer in rows}


async def keep_answers(
    connection: AsyncConnection, answered: Sequence[tuple[KeyedRequest, dict[str, Any]]], *, now: datetime
) -> None:
    """Stores the answers to requests that have a key."""
    rows = [
        (*request.place, request.digest, orjson.dumps(answer).decode())
        for request, answer in answered
        if request.place is not None
    ]
    if rows:
        await driver_connection(connection).execute(
            "INSERT INTO kept_answers (mandate_no, action, actor, idempotency_key, digest, answer, at)"
            " SELECT *, $7::timestamptz"
            " FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::jsonb[])",
            *(list(column) for column in zip(*rows, strict=True)),
            now,
        )
