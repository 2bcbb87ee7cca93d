"""Answers that are kept, so that a change whose answer was lost can be asked for again and is made once."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

import asyncpg
import orjson

from services.chassis.problems import IdempotencyMismatch

__all__ = ["KeyedRequest", "answer_once"]


class KeyedRequest(NamedTuple):
    """What is asked, by whom and with which key; without a key it is asked for once."""

    action: str
    mandate_no: int
    actor: str
    key: str | None
    body: str

    @property
    def digest(self) -> bytes:
        """Tells a repeat from another request."""
        return sha256(self.body.encode()).digest()


async def answer_once(
    connection: asyncpg.Connection,
    asked: KeyedRequest,
    change: Callable[[], Awaitable[dict[str, Any]]],
    *,
    now: datetime,
) -> dict[str, Any]:
    """Makes the change in the caller's transaction and keeps its answer; a repeat gets the first one's.

    A change that fails keeps nothing. Two of one key at once: the second waits for the first to be done.
    """
    if asked.key is None:
        return await change()
    place = (asked.mandate_no, asked.action, asked.actor, asked.key)
    first = await connection.fetchval(
        "INSERT INTO kept_answers (mandate_no, action, actor, idempotency_key, digest, at)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true",
        *place,
        asked.digest,
        now,
    )
    if not first:
        kept = await connection.fetchrow(
            "SELECT digest, answer FROM kept_answers"
            " WHERE mandate_no = $1 AND action = $2 AND actor = $3 AND idempotency_key = $4",
            *place,
        )
        if kept["digest"] != asked.digest:
            raise IdempotencyMismatch
        answer: dict[str, Any] = kept["answer"]
        return answer
    answer = await change()
    await connection.execute(
        "UPDATE kept_answers SET answer = $5"
        " WHERE mandate_no = $1 AND action = $2 AND actor = $3 AND idempotency_key = $4",
        *place,
        orjson.dumps(answer).decode(),
    )
    return answer
