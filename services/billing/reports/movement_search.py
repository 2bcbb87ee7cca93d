"""Looking for a text in transactions: in description, feature, provider, model, names of users and mandates, and ids.

Names are looked for in the tables in which each stands once, so that of most rows only numbers are compared.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from services.billing.reports.extent import Extent
from services.billing.reports.movement_values import CHARGE, MANDATE_NAME, row, said, text_of, transaction_id
from services.billing.tables import accounts, dimensions, directory_mandates, directory_users, mandates

__all__ = ["search_of"]

_Condition = sa.ColumnElement[bool]

_IN_UUIDS = frozenset("0123456789abcdef-")


def search_of(extent: Extent) -> Callable[[str], _Condition]:
    """How a text is looked for among the rows of an extent."""

    def search(text: str) -> _Condition:
        sought = _Sought(extent, text)
        return sa.or_(sought.named(), sought.about_user(), sought.described(), sought.identified())

    return search


class _Sought:
    """A text, and where it can be."""

    def __init__(self, extent: Extent, text: str) -> None:
        self._extent = extent
        self._text = text

    def named(self) -> _Condition:
        """In the names of a row's mandate, feature, provider or model."""
        dimension = dimensions.c
        names = (dimension.provider, dimension.model, dimension.feature_code, dimension.feature_instance_id)
        of_mandate = mandates.outerjoin(directory_mandates, directory_mandates.c.id == mandates.c.id)
        mandate = sa.or_(self._in(text_of(mandates.c.id)), self._in(MANDATE_NAME))
        return sa.or_(
            self._in_dimension(sa.or_(*map(self._in, names))),
            row.mandate_no.in_(self._numbers(mandates.c.no, of_mandate, mandates.c.no, mandate)),
        )

    def about_user(self) -> _Condition:
        """In the id or the name of whose a row is: its creator's, else its member's."""
        person, account = directory_users.c, accounts.c
        members = accounts.outerjoin(directory_users, person.id == account.user_id)
        called = sa.and_(
            account.type == "USER", sa.or_(self._in(text_of(account.user_id)), self._in(person.display_name))
        )
        of_member = row.member_account_no.in_(self._numbers(account.no, members, account.mandate_no, called))
        creators = sa.select(text_of(person.id)).where(self._in(person.display_name))
        return sa.or_(
            sa.and_(of_member, sa.func.coalesce(row.created_by_user_id, "") == ""),
            self._in(row.created_by_user_id),
            sa.and_(row.created_by_user_id.is_not(None), row.created_by_user_id.in_(creators)),
        )

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
            account = sa.and_(accounts.c.type.in_(("MANDATE", "USER")), self._in(sa.cast(accounts.c.no, sa.Text)))
            numbers = self._numbers(accounts.c.no, accounts, accounts.c.mandate_no, account)
            found.append(row.member_account_no.in_(numbers))
        if _IN_UUIDS.issuperset(self._text.lower()):
            of_event = sa.and_(sa.func.coalesce(row.reference_id, "") == "", CHARGE)
            found.append(self._in(transaction_id()))
            found.append(sa.and_(of_event, self._in(sa.cast(row.event_id, sa.Text))))
        return sa.or_(*found)

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
