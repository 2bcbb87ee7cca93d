"""The stored requests, each statement in the caller's transaction."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.payments.requests.domain import NewRequest, StoredRequest
from services.payments.requests.tables import stripe_requests

__all__ = [
    "add_request",
    "begin_request",
    "claim_requests",
    "delete_requests",
    "has_newer_version",
    "postpone_request",
    "renew_stripe_attempt",
    "settle_request",
]

_COLUMNS = [stripe_requests.c[name] for name in StoredRequest.__dataclass_fields__]

# Made once, because making such a statement costs more than executing it, and a worker looks often.
_EARLIER = stripe_requests.alias("earlier")
_IS_FIRST = ~(
    sa.exists()
    .where(
        _EARLIER.c.lane == stripe_requests.c.lane,
        _EARLIER.c.settled_at.is_(None),
        _EARLIER.c.no < stripe_requests.c.no,
    )
    .correlate(stripe_requests)
)
_DUE = (
    sa.select(stripe_requests.c.no)
    .where(stripe_requests.c.settled_at.is_(None), stripe_requests.c.next_attempt_at <= sa.bindparam("now"), _IS_FIRST)
    .order_by(stripe_requests.c.next_attempt_at)
    .limit(sa.bindparam("at_most", type_=sa.Integer))
    .with_for_update(skip_locked=True)
    # Evaluated once, so that the limit holds.
    .cte("due")
)
_CLAIM = (
    sa.update(stripe_requests)
    .where(stripe_requests.c.no.in_(sa.select(_DUE.c.no)))
    .values(attempts=stripe_requests.c.attempts + 1, next_attempt_at=sa.bindparam("lease_until"))
    .returning(*_COLUMNS)
)


async def add_request(connection: AsyncConnection, request: NewRequest, *, topic: str, data: str, now: datetime) -> str:
    """Keeps a request and says what became of it: stored, repeated, or a conflict with another one of its id. What
    waits before it in its lane is looked at again now."""
    added = await connection.execute(
        insert(stripe_requests)
        .values(
            topic=topic,
            request_id=request.request_id,
            mandate_id=request.mandate_id,
            lane=request.lane,
            version=request.version,
            data=data,
            received_at=now,
            expires_at=request.expires_at,
            next_attempt_at=now,
        )
        .on_conflict_do_nothing(index_elements=["topic", "request_id"])
        .returning(stripe_requests.c.no)
    )
    if added.first() is None:
        same = (stripe_requests.c.topic == topic, stripe_requests.c.request_id == request.request_id)
        known = await connection.scalar(sa.select(stripe_requests.c.data).where(*same))
        return "repeated" if known == data else "conflict"
    if request.version is not None:
        # An older version that waits for Stripe is superseded at once.
        waiting = (
            stripe_requests.c.lane == request.lane,
            stripe_requests.c.settled_at.is_(None),
            stripe_requests.c.error.is_not(None),
        )
        await connection.execute(sa.update(stripe_requests).where(*waiting).values(next_attempt_at=now))
    return "stored"


async def claim_requests(
    connection: AsyncConnection, *, limit: int, now: datetime, lease_until: datetime
) -> list[StoredRequest]:
    """Takes due requests for this worker, of each lane the first that is not settled; they come again when the lease
    ends and nobody has settled them."""
    rows = await connection.execute(_CLAIM, {"now": now, "at_most": limit, "lease_until": lease_until})
    return [StoredRequest(*row) for row in rows]


async def begin_request(connection: AsyncConnection, no: int, now: datetime) -> None:
    """Notes that Stripe may be asked from now on."""
    fresh = (stripe_requests.c.no == no, stripe_requests.c.begun_at.is_(None))
    await connection.execute(sa.update(stripe_requests).where(*fresh).values(begun_at=now))


async def has_newer_version(connection: AsyncConnection, request: StoredRequest) -> bool:
    """Whether its lane has a higher version than this one."""
    newer = (stripe_requests.c.lane == request.lane, stripe_requests.c.version > request.version)
    return bool(await connection.scalar(sa.select(sa.exists().where(*newer))))


async def settle_request(connection: AsyncConnection, no: int, *, outcome: str, now: datetime) -> bool:
    """Marks a request as done, in the transaction of its effect; False when another worker was first."""
    open_ = (stripe_requests.c.no == no, stripe_requests.c.settled_at.is_(None))
    settled = await connection.execute(
        sa.update(stripe_requests).where(*open_).values(settled_at=now, outcome=outcome, error=None)
    )
    return settled.rowcount == 1


async def delete_requests(connection: AsyncConnection, *, received_before: datetime, limit: int) -> int:
    """Deletes up to so many of the oldest settled requests that came before a time; how many. Those of a lane in which
    something waits stay: what waits is compared with the versions there."""
    waiting = stripe_requests.alias("waiting")
    in_lane = sa.exists().where(waiting.c.lane == stripe_requests.c.lane, waiting.c.settled_at.is_(None))
    old = (
        sa.select(stripe_requests.c.no)
        .where(
            stripe_requests.c.received_at < received_before,
            stripe_requests.c.settled_at.is_not(None),
            ~in_lane.correlate(stripe_requests),
        )
        .order_by(stripe_requests.c.received_at)
        .limit(limit)
    )
    deleted = await connection.execute(sa.delete(stripe_requests).where(stripe_requests.c.no.in_(old)))
    return deleted.rowcount


async def postpone_request(connection: AsyncConnection, no: int, *, error: str, next_attempt_at: datetime) -> None:
    """Notes why a try failed and when the next is due."""
    open_ = (stripe_requests.c.no == no, stripe_requests.c.settled_at.is_(None))
    values = {"error": error, "next_attempt_at": next_attempt_at}
    await connection.execute(sa.update(stripe_requests).where(*open_).values(values))


async def renew_stripe_attempt(connection: AsyncConnection, request: StoredRequest) -> None:
    """Gives the request other keys at Stripe, unless somebody else has done so meanwhile."""
    same = (stripe_requests.c.no == request.no, stripe_requests.c.stripe_attempt == request.stripe_attempt)
    await connection.execute(sa.update(stripe_requests).where(*same).values(stripe_attempt=request.stripe_attempt + 1))
