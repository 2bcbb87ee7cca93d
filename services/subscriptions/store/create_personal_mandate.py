"""The personal mandate of a user who administers none: once, ever, with its trial.

One transaction decides it: the key of the user, the trial, the request to the directory. Settings and pool account
follow from the directory's entries and from the trial at billing, so whoever dies after the commit leaves nothing
undone, and whoever dies before has done nothing.
"""

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.directory.v1 import Mandate, Membership
from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.outbox import append_outbox
from services.chassis.problems import Unavailable
from services.subscriptions.lifecycle.await_stripe import until
from services.subscriptions.lifecycle.domain import begin
from services.subscriptions.lifecycle.record_changes import record_changes
from services.subscriptions.lifecycle.repository import trial_in_checkout, trial_used, use_trial
from services.subscriptions.plans.domain import Plan
from services.subscriptions.store import queries, repository
from services.subscriptions.store.domain import personal_ids
from services.subscriptions.store.publications import directory_requested
from services.subscriptions.store.queries import MandateEntry

__all__ = ["OfferedMandates"]

# What the directory holds; a user's name may be as long by itself.
NAME_LENGTH_MAX = 200
_TRIAL_OF_USER = "uq_trials_user_id"


class OfferedMandates:
    """The mandates in which a caller may activate features."""

    def __init__(
        self, database: Database, personal_plan: Plan, *, clock: Clock, faults: FaultPoints, wait_s: float
    ) -> None:
        self._database = database
        self._personal_plan = personal_plan
        self._clock = clock
        self._faults = faults
        self._wait_s = wait_s

    async def __call__(self, caller: Caller, *, cause: str) -> list[MandateEntry]:
        """Those that the caller administers, without the operator's own; where there is none, the personal one, which
        is made where the caller never had one."""

        async def offered() -> list[MandateEntry] | None:
            async with self._database.reading() as connection:
                known = await queries.mandates_known(connection, caller.administered)
            found = [each for each in known.values() if each.enabled and not each.is_system]
            # What the directory told the gateway and not yet this service may well be one of them.
            return found if found or len(known) == len(caller.administered) else None

        found = await until(offered, timeout_s=self._wait_s)
        if found is None:
            raise Unavailable(headers={"Retry-After": "1"})
        return found or await self._personal(caller, cause)

    async def _personal(self, caller: Caller, cause: str) -> list[MandateEntry]:
        try:
            await self._create(caller, cause)
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != _TRIAL_OF_USER:
                raise
            # The user began a trial elsewhere at this moment, which is theirs: it is found now.
            await self._create(caller, cause)

        async def entered() -> queries.PersonalMandate | None:
            found = await queries.personal_mandate(self._database, caller.user_id)
            return found if found is not None and found.entered else None

        personal = await until(entered, timeout_s=self._wait_s)
        if personal is None:
            # It is decided and comes; a repeat finds it.
            raise Unavailable(headers={"Retry-After": "1"})
        if not personal.usable:
            return []
        async with self._database.reading() as connection:
            return list((await queries.mandates_known(connection, [personal.mandate_id])).values())

    async def _create(self, caller: Caller, cause: str) -> None:
        now = self._clock()
        mandate_id, trial_id, request_id = personal_ids(caller.user_id)
        async with self._database.transaction() as connection:
            # Requests of the user at the same moment wait here for the first, and find that it was them.
            if not await repository.add_personal_mandate(connection, caller.user_id, str(mandate_id), now=now):
                return
            whose = (str(mandate_id), caller.user_id)
            # A trial that is offered in an open checkout is as good as begun; the mandate may start its own later.
            in_checkout = await trial_in_checkout(connection, *whose, of_mandate=False)
            if not in_checkout and not await trial_used(connection, *whose):
                trial = begin(
                    self._personal_plan,
                    subscription_id=trial_id,
                    mandate_id=str(mandate_id),
                    user_id=caller.user_id,
                    now=now,
                )
                await record_changes(connection, [trial], cause=cause, actor=caller.user_id, now=now)
                await use_trial(connection, trial.after, user_id=caller.user_id, now=now)
            request = directory_requested(
                await _entries(connection, caller, str(mandate_id)),
                request_id=request_id,
                mandate_id=str(mandate_id),
                user_id=caller.user_id,
                cause=cause,
                now=now,
            )
            await append_outbox(connection, [request])
            self._faults.reach("store_personal_before_commit")
        self._faults.reach("store_personal_begun")


async def _entries(connection: AsyncConnection, caller: Caller, mandate_id: str) -> list[Mandate | Membership]:
    username = await queries.username_of(connection, caller.user_id) or caller.user_id
    name = f"Home {username}"[:NAME_LENGTH_MAX]
    return [
        Mandate(id=mandate_id, name=name, label=name),
        Membership(mandate_id=mandate_id, user_id=caller.user_id, roles=["admin"]),
    ]
