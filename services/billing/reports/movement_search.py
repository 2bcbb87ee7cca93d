"""Looking for a text in transactions: in description, feature, provider, model, names of users and mandates, and ids.

Names are looked for in the tables in which each stands once, so that of most rows only numbers are compared.
"""

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from services.billing.reports.extent import Extent
from services.billing.reports.movement_values import CHARGE, MANDATE_NAME, among, row, said, text_of, transaction_id
from services.billing.tables import (
    accounts,
    dimensions,
    directory_mandates,
    directory_users,
    mandates,
    transactions,
    workflow_blocks,
)
from services.chassis.lists.columns import Filter
from services.chassis.statements import one_of

__all__ = ["of_workflows", "search_beside", "search_of", "search_of_plain_charges"]

_Condition = sa.ColumnElement[bool]

_IN_UUIDS = frozenset("0123456789abcdef-")
_NAMES = (
    dimensions.c.provider,
    dimensions.c.model,
    dimensions.c.feature_code,
    dimensions.c.feature_instance_id,
)


def search_of(extent: Extent) -> Callable[[str], _Condition]:
    """How a text is looked for among the rows of an extent."""

    def search(text: str) -> _Condition:
        sought = _Sought(extent, text)
        return sa.or_(sought.named(), sought.about_user(), sought.described(), sought.identified())

    return search


def search_of_plain_charges(extent: Extent, text: str) -> list[_Condition]:
    """Conditions of which a plain charge that has the text meets one, unless it has it in its workflow or its event."""
    return _Sought(extent, text).of_plain_charge()


def search_beside(extent: Extent, text: str) -> _Condition:
    """Whether a plain charge has the text in its workflow or its event; which do is found in the blocks of workflows
    and the index of events."""

    def has(value: sa.ColumnElement[str]) -> _Condition:
        return value.icontains(text, autoescape=True)

    found, said_by = _events_in_blocks(extent, has(workflow_blocks.c.workflow_ids), has), has(row.workflow_id)
    if not _IN_UUIDS.issuperset(text.lower()):
        return sa.and_(among(row.event_id, found), said_by)
    event_id = transactions.alias("each_event").c
    events = sa.select(event_id.event_id).where(extent.has_mandate(event_id.mandate_no), has(_text(event_id.event_id)))
    # One look-up for both.
    return sa.and_(among(row.event_id, sa.union_all(found, events)), sa.or_(said_by, has(_text(row.event_id))))


def of_workflows(extent: Extent, filters: Iterable[Filter]) -> list[_Condition]:
    """What filters by workflows say of a row's event, so that rows are found by their blocks."""
    return [
        _of_workflows(extent, [str(value) for value in each.values])
        for each in filters
        if each.column.name == "workflowId" and each.operator in ("equals", "in") and None not in each.values
    ]


def _of_workflows(extent: Extent, workflow_ids: list[str]) -> _Condition:
    # An overlap of arrays would compare each with each, and there can be a thousand of both; these are hashed.
    lines = sa.func.string_to_table(workflow_blocks.c.workflow_ids, sa.func.chr(10), type_=sa.Text)
    in_block = sa.exists().where(one_of(lines.column_valued("line"), workflow_ids)).correlate(workflow_blocks)
    return among(row.event_id, _events_in_blocks(extent, in_block, lambda value: one_of(value, workflow_ids)))


def _events_in_blocks(
    extent: Extent, in_block: _Condition, is_sought: Callable[[sa.ColumnElement[str]], _Condition]
) -> sa.Select[Any]:
    """The events of rows whose workflow is sought, in blocks that have one of those; events of other mandates may have
    the same ids."""
    block, each = workflow_blocks.c, transactions.alias("each_row").c
    of_block = (each.mandate_no == block.mandate_no, each.posted_account_no == block.account_no)
    rows = sa.select(each.event_id).where(*of_block, each.seq.between(block.first_seq, block.last_seq))
    # OFFSET 0 keeps it a look-up of each block, whatever the statistics.
    sought = rows.where(is_sought(each.workflow_id)).correlate(workflow_blocks).offset(0).lateral("of_block")
    read = sa.select(sought.c.event_id).select_from(workflow_blocks.join(sought, sa.true()))
    return read.where(extent.has_mandate(block.mandate_no), in_block)


def _text(value: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    return sa.cast(value, sa.Text)


class _Sought:
    """A text, and where it can be."""

    def __init__(self, extent: Extent, text: str) -> None:
        self._extent = extent
        self._text = text

    def named(self) -> _Condition:
        """In the names of a row's mandate, feature, provider or model."""
        return sa.or_(self._in_dimension(sa.or_(*map(self._in, _NAMES))), self._of_mandate())

    def about_user(self) -> _Condition:
        """In the id or the name of whose a row is: its creator's, else its member's."""
        person = directory_users.c
        creators = sa.select(text_of(person.id)).where(self._in(person.display_name))
        return sa.or_(
            sa.and_(self._of_member(), sa.func.coalesce(row.created_by_user_id, "") == ""),
            self._in(row.created_by_user_id),
            sa.and_(row.created_by_user_id.is_not(None), row.created_by_user_id.in_(creators)),
        )

    def of_plain_charge(self) -> list[_Condition]:
        """All of these for a plain charge but its workflow and its event, each by itself."""
        provider = said(dimensions.c.provider, "")
        names = [*_NAMES, sa.literal("AI Usage: ", sa.Text) + provider]
        found = [self._in_dimension(sa.or_(*map(self._in, names))), self._of_mandate(), self._of_member()]
        if self._text.lower() in "debit":
            found.append(sa.not_(self._in_dimension(provider.is_not(None))))
        if self._text.isdigit():
            found.append(self._of_account())
        if _IN_UUIDS.issuperset(self._text.lower()):
            found.append(self._in(transaction_id()))
        return found

    def described(self) -> _Condition:
        """In a row's own description, or in the one that it is given."""
        dimension, text = dimensions.c, self._text.lower()
        feature = sa.func.coalesce(said(dimension.feature_code, ""), said(dimension.feature_instance_id, ""))
        provider = said(dimension.provider, "")
        of_storage = [self._in_dimension(self._in(sa.literal("Storage: ", sa.Text) + feature))]
        if text in "storage":
            of_storage.append(sa.not_(self._in_dimension(feature.is_not(None))))
        of_usage = sa.or_(
            self._in_dimension(self._in(sa.literal("AI Usage: ", sa.Text) + provider)),
            sa.and_(self._in(row.transaction_type), sa.not_(self._in_dimension(provider.is_not(None)))),
        )
        given = sa.case((row.reference_type == "STORAGE", sa.or_(*of_storage)), else_=of_usage)
        return sa.or_(self._in(row.description), sa.and_(sa.func.coalesce(row.description, "") == "", given))

    def identified(self) -> _Condition:
        """In the ids of a row, its account, its workflow, its reference or its event."""
        found = [self._in(row.workflow_id), self._in(row.reference_id)]
        if self._text.isdigit():
            found.append(self._of_account())
        if _IN_UUIDS.issuperset(self._text.lower()):
            of_event = sa.and_(sa.func.coalesce(row.reference_id, "") == "", CHARGE)
            found.append(self._in(transaction_id()))
            found.append(sa.and_(of_event, self._in(sa.cast(row.event_id, sa.Text))))
        return sa.or_(*found)

    def _of_mandate(self) -> _Condition:
        of_mandate = mandates.outerjoin(directory_mandates, directory_mandates.c.id == mandates.c.id)
        called = sa.or_(self._in(text_of(mandates.c.id)), self._in(MANDATE_NAME))
        return row.mandate_no.in_(self._numbers(mandates.c.no, of_mandate, mandates.c.no, called))

    def _of_member(self) -> _Condition:
        person, account = directory_users.c, accounts.c
        members = accounts.outerjoin(directory_users, person.id == account.user_id)
        called = sa.or_(self._in(text_of(account.user_id)), self._in(person.display_name))
        of_users = self._numbers(account.no, members, account.mandate_no, sa.and_(account.type == "USER", called))
        return row.member_account_no.in_(of_users)

    def _of_account(self) -> _Condition:
        shown = sa.and_(accounts.c.type.in_(("MANDATE", "USER")), self._in(sa.cast(accounts.c.no, sa.Text)))
        return row.member_account_no.in_(self._numbers(accounts.c.no, accounts, accounts.c.mandate_no, shown))

    def _in(self, value: sa.ColumnElement[Any]) -> _Condition:
        return value.icontains(self._text, autoescape=True)

    def _in_dimension(self, condition: _Condition) -> _Condition:
        """Whether what the row is booked under meets the condition; never null."""
        numbers = self._numbers(dimensions.c.no, dimensions, dimensions.c.mandate_no, condition)
        return sa.func.coalesce(row.dimension_no.in_(numbers), sa.false())

    def _numbers(
        self, number: sa.ColumnElement[int], tables: sa.FromClause, mandate_no: sa.ColumnElement[int], where: _Condition
    ) -> sa.Select[Any]:
        return sa.select(number).select_from(tables).where(where, self._extent.has_mandate(mandate_no))
