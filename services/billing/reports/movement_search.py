"""Looking for a text in transactions: in description, feature, provider, model, names of users and mandates, and ids.

Names are looked for in the tables in which each stands once, workflows in their blocks, both once for a request. So its
statements compare only numbers of most rows, and look for nothing where nothing was found.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.domain import transaction_place
from services.billing.reports.extent import Extent
from services.billing.reports.movement_values import CHARGE, KEY, MANDATE_NAME, row, said, text_of, transaction_id
from services.billing.reports.workflow_search import can_be_in_workflow, events_with_text, lower
from services.billing.tables import (
    accounts,
    dimensions,
    directory_mandates,
    directory_users,
    mandates,
    transactions,
    usage_descriptions,
)
from services.chassis.statements import one_of

__all__ = ["Search", "find_search"]

_Condition = sa.ColumnElement[bool]
_Value = sa.ColumnElement[Any]

_IN_UUIDS = frozenset("0123456789abcdef-")
UUID_CHARACTERS: Final = 36
_EVENT = transactions.alias("each_event")
_FEATURE = sa.func.coalesce(said(dimensions.c.feature_code, ""), said(dimensions.c.feature_instance_id, ""))
_PROVIDER = said(dimensions.c.provider, "")
_NAMES = (
    dimensions.c.provider,
    dimensions.c.model,
    dimensions.c.feature_code,
    dimensions.c.feature_instance_id,
)


async def find_search(connection: AsyncConnection, extent: Extent, text: str, *, found_max: int) -> "Search":
    """The search for a text, which is looked for in names, workflows and events of the extent."""
    places = _places(extent, text)
    arrays = (
        sa.func.array(each.limit(found_max + 1).scalar_subquery(), type_=sa.ARRAY(each.selected_columns[0].type))
        for each in places.values()
    )
    row_of_arrays = (await connection.execute(sa.select(*arrays))).one()
    found = {name: tuple(each) for name, each in zip(places, row_of_arrays, strict=True) if len(each) <= found_max}
    return Search(extent, text, places, found)


@dataclass(frozen=True, slots=True)
class Search:
    """A text, the places in which it can be, and those in which it was found; of those that are too many `found` has
    none, so each statement looks for them by itself."""

    extent: Extent
    text: str
    places: Mapping[str, sa.Select[Any]]
    found: Mapping[str, Sequence[Any]]

    @property
    def is_of_most_members(self) -> bool:
        """Whether fewer accounts are without the text than there are members that have it in their id or name."""
        members, others = self.found.get("members"), self.found.get("other_accounts")
        return others is not None and (members is None or len(others) < len(members))

    def anywhere(self) -> _Condition:
        """Whether a row has the text."""
        named = sa.or_(self._of_dimension("named"), self._of_mandate())
        return sa.or_(named, self._about_user(), self._described(), self._identified())

    def of_plain_charge(self) -> list[_Condition]:
        """Conditions of which a plain charge that has the text meets one, unless it has it in its workflow, its event
        or a description that not all of its dimension have; none where no such charge can have it."""
        if self.found.get("said_otherwise") == ():
            return [sa.true()]
        conditions = [
            self._of_dimension("named"),
            self._of_dimension("described_so"),
            self._of_mandate(),
            self._of_member(),
        ]
        if "accounts" in self.places:
            conditions.append(self._among(row.member_account_no, "accounts"))
        if _can_be_in_uuid(self.text):
            conditions.append(self._of_row())
        if any(each is sa.true() for each in conditions):
            return [sa.true()]
        return [each for each in conditions if each is not sa.false()]

    def beside(self) -> _Condition | None:
        """Whether a plain charge has the text in its workflow, its event or a description that not all of its dimension
        have; None where none has."""
        described = self._of_dimension("described")
        found = [self._by_event(), None if described is sa.false() else sa.and_(described, self._described())]
        conditions = [each for each in found if each is not None]
        return sa.or_(*conditions) if conditions else None

    def _by_event(self) -> _Condition | None:
        said_by = {"in_workflows": self._in(row.workflow_id), "in_events": _has_event(row.event_id, self.text)}
        sought = [name for name in said_by if name in self.places]
        says = sa.or_(sa.false(), *(said_by[name] for name in sought))
        if any(name not in self.found for name in sought):
            return says
        event_ids = [each for name in sought for each in self.found[name]]
        # An event of another mandate may have the same id.
        return sa.and_(one_of(row.event_id, event_ids), says) if event_ids else None

    def _about_user(self) -> _Condition:
        """In the id or the name of whose a row is: its creator's, else its member's."""
        creator = row.created_by_user_id
        about = sa.and_(self._of_member(), sa.func.coalesce(creator, "") == "")
        # Few rows have a creator, so all people are looked at only where one has.
        creators = sa.select(text_of(directory_users.c.id)).where(self._in(directory_users.c.display_name))
        return sa.or_(about, self._in(creator), sa.and_(creator.is_not(None), creator.in_(creators)))

    def _described(self) -> _Condition:
        """In a row's own description, or in the one that it is given."""
        of_storage = [self._of_dimension("of_storage")]
        if lower(self.text) in "storage":
            of_storage.append(sa.not_(self._of_dimension("with_feature")))
        by_type = sa.and_(self._in(row.transaction_type), sa.not_(self._of_dimension("with_provider")))
        of_usage = sa.or_(self._of_dimension("of_usage"), by_type)
        given = sa.case((row.reference_type == "STORAGE", sa.or_(*of_storage)), else_=of_usage)
        return sa.or_(self._in(row.description), sa.and_(sa.func.coalesce(row.description, "") == "", given))

    def _identified(self) -> _Condition:
        """In the ids of a row, its account, its workflow, its reference or its event."""
        found = [self._in(row.workflow_id), self._in(row.reference_id)]
        if "accounts" in self.places:
            found.append(self._among(row.member_account_no, "accounts"))
        if _can_be_in_uuid(self.text):
            of_event = sa.and_(sa.func.coalesce(row.reference_id, "") == "", CHARGE)
            found.append(self._of_row())
            found.append(sa.and_(of_event, _has_event(row.event_id, self.text)))
        return sa.or_(*found)

    def _of_row(self) -> _Condition:
        """Whether the row's id has the text, by its place in the ledger where that is a whole id."""
        others = self.found.get("with_other_ids")
        if others == ():
            return sa.true()
        whole = _whole_uuid(self.text)
        if whole is not None:
            place = transaction_place(whole)
            return (
                sa.false() if place is None else sa.and_(*(key == part for key, part in zip(KEY, place, strict=True)))
            )
        if others is None or "-" in self.text:
            return _uuid_has(transaction_id(), self.text)
        # Of the groups of digits the last alone can have it, and to make that is a tenth of the work.
        last = sa.func.lpad(sa.func.to_hex(row.seq), 12, "0")
        return sa.or_(sa.not_(one_of(row.posted_account_no, others)), _uuid_has(last, self.text))

    def _of_mandate(self) -> _Condition:
        found, numbers = self.found.get("mandates"), self.extent.mandates
        every = found is not None and numbers is not None and set(found) >= set(numbers)
        return sa.true() if every else self._among(row.mandate_no, "mandates")

    def _of_member(self) -> _Condition:
        if not self.is_of_most_members:
            return self._among(row.member_account_no, "members")
        others = self._among(row.member_account_no, "other_accounts")
        return sa.true() if others is sa.false() else sa.not_(others)

    def _of_dimension(self, name: str) -> _Condition:
        """Whether what the row is booked under is one of those; never null."""
        among = self._among(row.dimension_no, name)
        return among if among is sa.false() else sa.func.coalesce(among, sa.false())

    def _among(self, value: _Value, name: str) -> _Condition:
        found = self.found.get(name)
        if found is None:
            return value.in_(self.places[name])
        return one_of(value, found) if found else sa.false()

    def _in(self, value: _Value) -> _Condition:
        return value.icontains(self.text, autoescape=True)


def _can_be_in_uuid(text: str) -> bool:
    return _IN_UUIDS.issuperset(text.lower())


def _whole_uuid(text: str) -> UUID | None:
    """The id that the text is, as answers show ids."""
    if len(text) != UUID_CHARACTERS:
        return None
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None


def _has_event(event_id: sa.ColumnElement[UUID], text: str) -> _Condition:
    """Whether the id of an event has the text; of a whole one, by its index."""
    whole = _whole_uuid(text)
    return _uuid_has(sa.cast(event_id, sa.Text), text) if whole is None else event_id == whole


def _uuid_has(shown: _Value, text: str) -> _Condition:
    """Whether a UUID as text has the text, of which `_can_be_in_uuid` is true. Its letters are small ones, and to fold
    the case of each row's takes longer than all else."""
    return sa.func.strpos(shown, sa.literal(text.lower(), sa.Text)) > 0


def _places(extent: Extent, text: str) -> dict[str, sa.Select[Any]]:
    """What can have the text, by a name for each: dimensions, mandates and accounts by their numbers, charges by their
    events."""

    def has(value: _Value) -> _Condition:
        return value.icontains(text, autoescape=True)

    def numbers(
        number: sa.ColumnElement[int], tables: sa.FromClause, mandate_no: sa.ColumnElement[int], where: _Condition
    ) -> sa.Select[Any]:
        return sa.select(number).select_from(tables).where(extent.has_mandate(mandate_no), where)

    person, account, mandate = directory_users.c, accounts.c, mandates.c
    in_mandates = mandates.outerjoin(directory_mandates, directory_mandates.c.id == mandate.id)
    in_members = accounts.outerjoin(directory_users, person.id == account.user_id)
    called = _any(has, text_of(account.user_id), person.display_name)
    is_called = sa.func.coalesce(sa.and_(account.type == "USER", called), sa.false()).label("is_called")
    each = sa.select(account.no, is_called).select_from(in_members).where(extent.has_mandate(account.mandate_no))
    # Read once, because several select from it.
    of_accounts = each.cte("of_accounts").c
    of_dimensions = _dimensions(extent, text, has).c

    def dimensions_where(where: _Condition) -> sa.Select[Any]:
        return sa.select(of_dimensions.no).where(where)

    can_say, need_not_say = of_dimensions.can_say, of_dimensions.need_not_say
    otherwise = sa.and_(~of_dimensions.named, need_not_say)
    places = {
        "named": dimensions_where(of_dimensions.named),
        "described_so": dimensions_where(sa.and_(can_say, ~need_not_say)),
        "said_otherwise": dimensions_where(otherwise),
        "described": dimensions_where(sa.and_(can_say, otherwise)),
        "of_usage": dimensions_where(of_dimensions.of_usage),
        "with_provider": dimensions_where(of_dimensions.with_provider),
        "of_storage": dimensions_where(of_dimensions.of_storage),
        "with_feature": dimensions_where(of_dimensions.with_feature),
        "mandates": numbers(mandate.no, in_mandates, mandate.no, _any(has, text_of(mandate.id), MANDATE_NAME)),
        "members": sa.select(of_accounts.no).where(of_accounts.is_called),
        "other_accounts": sa.select(of_accounts.no).where(sa.not_(of_accounts.is_called)),
    }
    if text.isdigit():
        is_shown = sa.and_(account.type.in_(("MANDATE", "USER")), has(sa.cast(account.no, sa.Text)))
        places["accounts"] = numbers(account.no, accounts, account.mandate_no, is_shown)
    if can_be_in_workflow(text):
        places["in_workflows"] = events_with_text(extent, text)
    if _can_be_in_uuid(text):
        has_event = _has_event(_EVENT.c.event_id, text)
        # The ids of a chain differ in no more digits than its last number has.
        fixed = sa.func.left(transaction_id(account.no, account.seq), -sa.func.length(sa.func.to_hex(account.seq)))
        differs = sa.and_(account.seq > 0, sa.not_(_uuid_has(fixed, text)))
        places["with_other_ids"] = numbers(account.no, accounts, account.mandate_no, differs)
        places["in_events"] = sa.select(_EVENT.c.event_id).where(extent.has_mandate(_EVENT.c.mandate_no), has_event)
    return places


def _dimensions(extent: Extent, text: str, has: Callable[[_Value], _Condition]) -> sa.CTE:
    """What each dimension says, and its usage: looked at once, because several places select from it."""
    of_usage = has(sa.literal("AI Usage: ", sa.Text) + _PROVIDER)
    # What usage without a description is called, of which an empty one is kept.
    called_so = sa.or_(of_usage, _PROVIDER.is_(None)) if lower(text) in "debit" else of_usage
    kept = usage_descriptions.c
    # Null where more are there than are kept, each of which can have the text or not.
    says = sa.case((kept.description == "", sa.func.coalesce(called_so, sa.false())), else_=has(kept.description))
    can_say, need_not_say = sa.func.coalesce(says, sa.true()), sa.not_(sa.func.coalesce(says, sa.false()))
    said_of_each = (
        sa.select(sa.func.bool_or(can_say).label("can_say"), sa.func.bool_or(need_not_say).label("need_not_say"))
        .where(kept.mandate_no == dimensions.c.mandate_no, kept.dimension_no == dimensions.c.no)
        .correlate(dimensions)
        .lateral("said")
    )
    each = {
        "named": _any(has, *_NAMES),
        "can_say": said_of_each.c.can_say,
        "need_not_say": said_of_each.c.need_not_say,
        "of_usage": of_usage,
        "with_provider": _PROVIDER.is_not(None),
        "of_storage": has(sa.literal("Storage: ", sa.Text) + _FEATURE),
        "with_feature": _FEATURE.is_not(None),
    }
    told = [sa.func.coalesce(condition, sa.false()).label(name) for name, condition in each.items()]
    read = sa.select(dimensions.c.no, *told).select_from(dimensions.join(said_of_each, sa.true()))
    return read.where(extent.has_mandate(dimensions.c.mandate_no)).cte("of_dimensions")


def _any(has: Callable[[_Value], _Condition], *values: _Value) -> _Condition:
    return sa.or_(*map(has, values))
