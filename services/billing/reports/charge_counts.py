"""How many plain charges there are, and of which members and dimensions, by the rollups and the sums of them.

Conditions and values are those of plain charges (`of_plain_charge`), of nothing but the numbers that rollups have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.selectable import LateralFromClause

from services.billing.reports.extent import Extent
from services.billing.reports.movement_values import TABLES, row, with_columns
from services.billing.reports.plain_charges import NUMBERS, OTHERS, of_plain_charge, row_columns
from services.billing.tables import accounts, mandates, rollup_sums, rollups, transactions

__all__ = ["PlainCharges", "about_members"]

_Value = sa.ColumnElement[Any]
_NO_MEMBER = sa.cast(sa.null(), sa.BigInteger)


def _rollups_of(account: sa.FromClause, *where: _Value, beside: Sequence[sa.FromClause] = ()) -> LateralFromClause:
    """The rollups of each account; OFFSET 0 keeps it a look-up of each, whatever the statistics."""
    of_account = (rollups.c.mandate_no == account.c.mandate_no, rollups.c.member_account_no == account.c.no)
    found = sa.select(rollups.c.dimension_no, rollups.c.count).where(*of_account, *where)
    return found.correlate(account, *beside).offset(0).lateral("of_each")


# Made once: to name the columns of each anew takes a request longer than to count by them.
_MANDATE, _ACCOUNT = mandates.alias("each_mandate"), accounts.alias("each_account")
_OF_EACH = _rollups_of(_ACCOUNT)
_LATER_OF_EACH = _rollups_of(_ACCOUNT, rollups.c.day > _MANDATE.c.summed_until, beside=(_MANDATE,))
_OF_ACCOUNTS = _ACCOUNT.join(_OF_EACH, sa.true())
_WITH_ACCOUNTS = _MANDATE.join(_ACCOUNT, _ACCOUNT.c.mandate_no == _MANDATE.c.no).join(_LATER_OF_EACH, sa.true())
_WITH_ROLLUPS = _MANDATE.join(rollups, rollups.c.mandate_no == _MANDATE.c.no)


@dataclass(frozen=True, slots=True)
class _Arm:
    """Where numbers come from, their columns, how often they are there, and what else has to hold."""

    source: sa.FromClause
    numbers: Mapping[str, _Value]
    count: _Value
    where: Sequence[_Value]


@dataclass(frozen=True, slots=True)
class PlainCharges:
    """Those of an extent that meet conditions, which look at these tables (`movement_values.TABLES`)."""

    extent: Extent
    conditions: Sequence[_Value]
    tables: frozenset[str]

    def count(self) -> sa.ScalarSelect[Any]:
        """How many there are."""
        counted = self._counted(self.are_by_member)
        return sa.select(sa.func.coalesce(sa.func.sum(counted.c.count), 0)).scalar_subquery()

    def distinct(self, numbers: frozenset[str]) -> sa.Select[Any]:
        """What of these numbers they have, in columns of their names."""
        if "dimension_no" not in numbers and not self._are_by_dimension:
            return self._members(numbers)
        counted = self._counted(self.are_by_member or "member_account_no" in numbers)
        columns = [counted.c[name] for name in sorted(numbers)]
        return sa.select(*columns).group_by(*columns).having(sa.func.sum(counted.c.count) > 0)

    @property
    def are_by_member(self) -> bool:
        """Whether a condition is about whose they are."""
        return bool(self.tables & {"member", "user"}) or any(map(about_members, self.conditions))

    @property
    def _are_by_dimension(self) -> bool:
        return "dimension" in self.tables or any("dimension_no" in row_columns(each) for each in self.conditions)

    def _members(self, numbers: frozenset[str]) -> sa.Select[Any]:
        """Members with plain charges: of most one look-up says that they have any; of those with other charges the
        counts do."""
        account, beside = _ACCOUNT, self._beside(row.member_account_no)
        of_account = (rollups.c.mandate_no == account.c.mandate_no, rollups.c.member_account_no == account.c.no)
        theirs = [*beside.where, row.mandate_no == account.c.mandate_no, row.member_account_no == account.c.no]
        count, less = (
            sa.select(sa.func.coalesce(sa.func.sum(summed), 0)).where(*where).correlate(account).scalar_subquery()
            for summed, where in ((rollups.c.count, of_account), (beside.count, theirs))
        )
        has_others = sa.exists().select_from(transactions).where(*theirs).correlate(account)
        has_any = sa.exists().select_from(rollups).where(*of_account).correlate(account)
        charged = sa.case((has_others, count + less > 0), else_=has_any)
        columns = _numbers(account.c.mandate_no, account.c.no, sa.null())
        arm = _Arm(account, columns, sa.literal(1), [self.extent.has_mandate(account.c.mandate_no), charged])
        found = self._met(arm).subquery()
        return sa.select(*(found.c[name] for name in sorted(numbers))).distinct()

    def _counted(self, by_member: bool) -> sa.Subquery:
        """Numbers and counts of those that meet the conditions; several can be of the same numbers."""
        if by_member:
            return sa.union_all(
                self._met(self._of_members()), self._met(self._beside(row.member_account_no))
            ).subquery()
        arms = [*self._of_dimensions(), self._beside(_NO_MEMBER)]
        every = sa.union_all(*map(_selected, arms)).subquery("every")
        columns = {name: every.c[name] for name in NUMBERS}
        return self._met(_Arm(every, columns, every.c.count, ())).subquery()

    def _met(self, arm: _Arm) -> sa.Select[Any]:
        """Those of an arm that meet the conditions."""
        source = arm.source
        for name, (table, condition) in TABLES.items():
            if name in self.tables:
                source = source.outerjoin(table, with_columns(of_plain_charge(condition, described=True), arm.numbers))
        met = [with_columns(condition, arm.numbers) for condition in self.conditions]
        return _selected(replace(arm, source=source, where=[*arm.where, *met]))

    def _of_dimensions(self) -> list[_Arm]:
        """Without members: of days that are summed the sums of their months, of the days after those the rollups."""
        kept, mandate, later = rollup_sums.c, _MANDATE.c, _LATER_OF_EACH.c
        until, of_extent = mandate.summed_until, self.extent.has_mandate(mandate.no)
        in_months = [kept.period == "month", self.extent.has_mandate(kept.mandate_no)]
        return [
            _Arm(rollup_sums, _numbers(kept.mandate_no, _NO_MEMBER, kept.dimension_no), kept.count, in_months),
            _Arm(
                _WITH_ACCOUNTS,
                _numbers(mandate.no, _NO_MEMBER, later.dimension_no),
                later.count,
                [until.is_not(None), of_extent],
            ),
            _Arm(
                _WITH_ROLLUPS,
                _numbers(mandate.no, _NO_MEMBER, rollups.c.dimension_no),
                rollups.c.count,
                [until.is_(None), of_extent],
            ),
        ]

    def _of_members(self) -> _Arm:
        """Members are looked up one by one, but for those that no condition lets through."""
        account, of_each = _ACCOUNT.c, _OF_EACH.c
        numbers = _numbers(account.mandate_no, account.no, of_each.dimension_no)
        return _Arm(_OF_ACCOUNTS, numbers, of_each.count, [self.extent.has_mandate(account.mandate_no)])

    def _beside(self, member: _Value) -> _Arm:
        """What the rollups count beside plain charges: other charges, and less what was taken back."""
        charged = sa.case((row.transaction_type == "DEBIT", -1), (row.derivation.is_(None), 1), else_=0)
        of_revenue = [OTHERS, row.contra_account == "REVENUE", self.extent.of_mandates()]
        return _Arm(transactions, _numbers(row.mandate_no, member, row.dimension_no), charged, of_revenue)


def _selected(arm: _Arm) -> sa.Select[Any]:
    columns = [arm.numbers[name].label(name) for name in sorted(NUMBERS)]
    return sa.select(*columns, arm.count.label("count")).select_from(arm.source).where(*arm.where)


def about_members(condition: _Value) -> bool:
    """Whether a condition is about whose a charge is."""
    return "member_account_no" in row_columns(condition)


def _numbers(mandate_no: _Value, member_account_no: _Value, dimension_no: _Value) -> dict[str, _Value]:
    return {"mandate_no": mandate_no, "member_account_no": member_account_no, "dimension_no": dimension_no}
