"""Does what was asked for: Stripe is called with keys made from the stored request alone, outside of any transaction;
then the outcome, its event and the mark that the request is settled are one transaction.

A crash anywhere in between lets the request come again, and the same keys make Stripe answer as it did before.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.clock import Clock
from services.chassis.database import Database, is_transient
from services.chassis.faults import FaultPoints
from services.chassis.logging import get_logger
from services.chassis.problems import Problem
from services.payments.requests.domain import StoredRequest
from services.payments.requests.metrics import REQUESTS_FAILED, REQUESTS_SETTLED
from services.payments.requests.repository import (
    begin_request,
    claim_requests,
    postpone_request,
    renew_stripe_attempt,
    settle_request,
)
from services.payments.stripe.errors import StripeFailed

__all__ = ["Done", "ProcessRequests", "Work"]

# How long a request stays with a worker that does not answer; longer than a try may take.
LEASE: Final = timedelta(seconds=20)
TRY_S: Final = 15.0
BACK_OFF_S: Final = 1.0
BACK_OFF_S_MAX: Final = 300.0

_log = get_logger(__name__)


async def _write_nothing(_: AsyncConnection) -> None:
    return


@dataclass(frozen=True, slots=True)
class Done:
    """The outcome of a request in a word, and what is written with it."""

    outcome: str
    write: Callable[[AsyncConnection], Awaitable[None]] = _write_nothing


class Work(Protocol):
    """What is done for the requests of one topic."""

    async def perform(self, request: StoredRequest) -> Done:
        """Asks Stripe; raises when it has to be tried again. It may have been begun before, and be over since."""

    def expired(self, request: StoredRequest) -> Done:
        """The outcome of one that was not begun in time."""


class ProcessRequests:
    """Processes the stored requests."""

    def __init__(self, database: Database, work: Mapping[str, Work], *, clock: Clock, faults: FaultPoints) -> None:
        self._database = database
        self._work = work
        self._clock = clock
        self._faults = faults

    async def claim(self, limit: int) -> list[StoredRequest]:
        """Takes up to `limit` due requests for this worker."""
        now = self._clock()
        async with self._database.reading() as connection:
            return await claim_requests(connection, limit=limit, now=now, lease_until=now + LEASE)

    async def process(self, request: StoredRequest) -> None:
        """Does one; whatever fails is noted, and the request comes again."""
        try:
            async with asyncio.timeout(TRY_S):
                done = await self._done(request)
            self._faults.reach("payments_request_done")
            now = self._clock()
            async with self._database.transaction() as connection:
                if not await settle_request(connection, request.no, outcome=done.outcome, now=now):
                    return
                await done.write(connection)
                self._faults.reach("payments_before_commit")
        except Exception as error:  # noqa: BLE001 - one request's fault must not stop the others.
            await self._note_failure(request, error)
        else:
            self._faults.reach("payments_request_settled")
            REQUESTS_SETTLED.labels(request.topic, done.outcome).inc()

    async def _done(self, request: StoredRequest) -> Done:
        work, now = self._work[request.topic], self._clock()
        if request.begun_at is None and request.is_over(now):
            return work.expired(request)
        if request.begun_at is None:
            async with self._database.reading() as connection:
                await begin_request(connection, request.no, now)
        self._faults.reach("payments_request_begun")
        return await work.perform(request)

    async def _note_failure(self, request: StoredRequest, error: Exception) -> None:
        name = error.actual_code if isinstance(error, Problem) else type(error).__name__
        REQUESTS_FAILED.labels(name).inc()
        expected = isinstance(error, Problem) or is_transient(error)
        _log.warning(
            "request failed",
            topic=request.topic,
            request_id=str(request.request_id),
            attempts=request.attempts,
            error=name,
            exc_info=None if expected else error,
        )
        try:
            async with self._database.transaction() as connection:
                if isinstance(error, StripeFailed):
                    await renew_stripe_attempt(connection, request)
                now = self._clock()
                due = now + timedelta(seconds=_back_off_s(request.attempts))
                if request.expires_at is not None and now < request.expires_at < due:
                    # Who asked is told in time that it was given up.
                    due = request.expires_at
                await postpone_request(connection, request.no, error=name, next_attempt_at=due)
        except Exception as failure:
            # Without a database nothing can be noted; the lease ends by itself and the request comes again.
            if not is_transient(failure):
                raise


def _back_off_s(attempts: int) -> float:
    """Doubles from a second to five minutes, spread so that an outage does not end in a rush."""
    return min(BACK_OFF_S_MAX, BACK_OFF_S * 2.0 ** min(attempts - 1, 16)) * random.uniform(0.5, 1.0)
