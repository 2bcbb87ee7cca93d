"""What of the ledger a caller may see, and which part of that a request asks for.

A scope is values, and its conditions take the columns that they look at, so that lists, statistics and whatever else
reads rows or sums of them apply one and the same.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self, cast, get_args

import sqlalchemy as sa
from fastapi import Depends, Query

from services.billing.http import Context
from services.billing.mandates.errors import MandateUnknown
from services.billing.mandates.queries import mandate_exists
from services.billing.parameters import FlagOf, IdOf, OneOf
from services.chassis.caller import Caller, CurrentCaller, Forbidden
from services.chassis.database import Database
from services.chassis.statements import one_of

__all__ = [
    "ContextScope",
    "RequestedScope",
    "Scope",
    "ScopeName",
    "requested_mandate",
    "requested_scope",
    "scope_of_context",
]

ScopeName = Literal["personal", "mandate", "all"]
_Column = sa.ColumnElement[Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which mandates and which of their rows; a row is of a mandate, a user (S2) and a feature instance.

    A system administrator sees `everything`; anybody else all rows of the mandates they administer, their own rows in
    those that they are a member of, and those of the instances that they administer. `mandate_id` narrows each of that.
    """

    user_id: str
    everything: bool = False
    administered: tuple[str, ...] = ()
    member_of: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    instance_mandates: tuple[str, ...] = ()
    mandate_id: str | None = None

    @classmethod
    def of(
        cls, caller: Caller, name: ScopeName = "all", *, mandate_id: str | None = None, only_mine: bool = False
    ) -> Self:
        """The scope of that name; 403 for a mandate of which the caller may see nothing, whether or not it exists."""
        caller.require_person()
        named = mandate_id if mandate_id is not None else caller.context_mandate
        visible = caller.mandates.keys() | caller.instance_mandates
        if named is not None and not caller.system_admin and named not in visible:
            raise Forbidden
        if name == "personal" or only_mine:
            return cls(caller.user_id, member_of=tuple(sorted(caller.mandates)), mandate_id=named)
        if caller.system_admin:
            return cls(caller.user_id, everything=True, mandate_id=named)
        return cls(
            caller.user_id,
            administered=tuple(caller.administered),
            member_of=tuple(sorted(caller.mandates)),
            instances=tuple(sorted(caller.instances)),
            instance_mandates=tuple(sorted(caller.instance_mandates)),
            mandate_id=named,
        )

    @property
    def mandates(self) -> tuple[str, ...] | None:
        """The mandates of which anything can be seen, in id order; None for every one that there is."""
        if self.everything:
            return None if self.mandate_id is None else (self.mandate_id,)
        seen = {*self.administered, *self.member_of, *self.instance_mandates}
        return tuple(sorted(each for each in seen if self.mandate_id in (None, each)))

    def shows_whole(self, mandate_id: str) -> bool:
        """Whether all of a mandate of which anything can be seen is shown, and so what adds up all of it."""
        return self.everything or mandate_id in self.administered

    def of_member(self) -> Self:
        """Without what an administrator of instances sees: balances and accounts."""
        return replace(self, instances=(), instance_mandates=())

    def shows_mandate(self, mandate_id: _Column) -> sa.ColumnElement[bool]:
        """Whether anything of a mandate can be seen."""
        return sa.true() if self.mandates is None else one_of(mandate_id, self.mandates)

    def shows_row(self, mandate_id: _Column, user_id: _Column, instance_id: _Column) -> sa.ColumnElement[bool]:
        """Whether a row can be seen, beside `shows_mandate`."""
        if self.everything:
            return sa.true()
        shown = [self.shows_balance(mandate_id, user_id)]
        if self.instances:
            # A publisher may name an instance of another mandate: that gives nobody a look into its own.
            of_instance = sa.and_(one_of(mandate_id, self.instance_mandates), one_of(instance_id, self.instances))
            shown.append(sa.func.coalesce(of_instance, sa.false()))
        return sa.or_(*shown)

    def shows_balance(self, mandate_id: _Column, user_id: _Column) -> sa.ColumnElement[bool]:
        """Whether the balance that a row left can be seen: not where only its feature instance is the caller's."""
        if self.everything:
            return sa.true()
        own = sa.and_(one_of(mandate_id, self.member_of), user_id == self.user_id)
        return sa.func.coalesce(sa.or_(one_of(mandate_id, self.administered), own), sa.false())


async def requested_scope(
    context: Context,
    caller: CurrentCaller,
    name: Annotated[str, Query(alias="scope"), OneOf("scope", get_args(ScopeName))] = "all",
    mandate_id: Annotated[str | None, Query(alias="mandateId"), IdOf("mandateId")] = None,
    only_mine: Annotated[bool, Query(alias="onlyMine"), FlagOf("onlyMine")] = False,
) -> Scope:
    """FastAPI dependency: what the request asks for by `scope`, `mandateId` and `onlyMine`."""
    scope = Scope.of(caller, cast("ScopeName", name), mandate_id=mandate_id, only_mine=only_mine)
    if mandate_id is not None and caller.system_admin:
        await _require_mandate(context.database, mandate_id)
    return scope


async def requested_mandate(database: Database, caller: Caller, mandate_id: str) -> Scope:
    """All of a mandate that the caller may see; 404 where there is none of that id, to those who may know that."""
    scope = Scope.of(caller, "mandate", mandate_id=mandate_id)
    await _require_mandate(database, mandate_id)
    return scope


async def scope_of_context(context: Context, caller: CurrentCaller) -> Scope:
    """FastAPI dependency: all that the caller may see, of the context mandate where there is one."""
    scope = Scope.of(caller)
    if caller.context_mandate is not None and caller.system_admin:
        await _require_mandate(context.database, caller.context_mandate)
    return scope


ContextScope = Annotated[Scope, Depends(scope_of_context)]
RequestedScope = Annotated[Scope, Depends(requested_scope)]


async def _require_mandate(database: Database, mandate_id: str) -> None:
    async with database.reading() as connection:
        if not await mandate_exists(connection, mandate_id):
            raise MandateUnknown
