"""What a list may be asked: every fault is named, and nothing else passes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from services.chassis.lists.columns import Column, Columns, Filter
from services.chassis.lists.errors import PaginationFault
from services.chassis.lists.pagination import parse_pagination

NAME = Column("name", "text", sa.column("name", sa.Text))
ENABLED = Column("enabled", "flag", sa.column("enabled", sa.Boolean))
ROLES = Column("roles", "ids", sa.column("roles", sa.ARRAY(sa.Text)))
AMOUNT = Column("amount", "number", sa.column("amount", sa.Numeric))
AT = Column("createdAt", "time", sa.column("at", sa.DateTime(timezone=True)))
SECRET = Column("secret", "text", sa.column("secret", sa.Text), filterable=False, sortable=False)
COLUMNS = Columns.of([NAME, ENABLED, ROLES, AMOUNT, AT, SECRET], aliases={"sysCreatedAt": "createdAt"})


def parse(text: str) -> list[Filter]:
    return list(parse_pagination(text, COLUMNS, page_size_max=100).filters)


def test_what_is_missing_has_its_default() -> None:
    given = parse_pagination("{}", COLUMNS, page_size_max=100).given
    assert (given.page, given.page_size, given.sort, given.filters, given.search) == (1, 50, [], {}, None)


def test_a_bare_value_means_equals_and_a_list_means_in() -> None:
    assert parse('{"filters": {"name": "a", "enabled": true}}') == [
        Filter(NAME, "equals", ("a",)),
        Filter(ENABLED, "equals", (True,)),
    ]
    assert parse('{"filters": {"name": ["a", null]}}') == [Filter(NAME, "in", ("a", None))]
    assert parse('{"filters": {"roles": {"operator": "contains", "value": "admin"}}}') == [
        Filter(ROLES, "contains", ("admin",))
    ]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("", "pagination: this is not valid JSON"),
        ("[]", "pagination"),
        ('{"page": 1, "page": 2}', "pagination: an object has a key twice"),
        ('{"pageSize": 101}', "pageSize is at most 100"),
        ('{"page": "1"}', "pagination.page"),
        ('{"page": 0}', "pagination.page"),
        ('{"page": 1000000001}', "pagination.page"),
        ('{"page": 1.5}', "pagination.page"),
        ('{"pages": 1}', "pagination.pages"),
        ('{"sort": [{"field": "salary"}]}', "salary is no column"),
        ('{"sort": [{"field": "secret"}]}', "secret is no column; there are name, enabled, roles, amount, createdAt$"),
        ('{"sort": [{"field": "name", "direction": "up"}]}', "pagination.sort.0.direction"),
        ('{"filters": {"salary": 1}}', "salary is no column"),
        ('{"filters": {"secret": "1"}}', "secret is no column"),
        ('{"filters": {"name": 1}}', "compared with text"),
        ('{"filters": {"name": true}}', "compared with text"),
        ('{"filters": {"name": {}}}', "filters.name.operator: one of equals"),
        ('{"filters": {"enabled": "true"}}', "compared with true or false"),
        ('{"filters": {"enabled": {"operator": "gt", "value": true}}}', "cannot be asked gt"),
        ('{"filters": {"roles": {"operator": "startsWith", "value": "a"}}}', "cannot be asked startsWith"),
        ('{"filters": {"amount": {"operator": "contains", "value": 1}}}', "cannot be asked contains"),
        ('{"filters": {"createdAt": {"operator": "startsWith", "value": "2026"}}}', "cannot be asked startsWith"),
        ('{"filters": {"name": {"operator": "in", "value": "a"}}}', "in takes a list"),
        ('{"filters": {"name": {"operator": "equals", "value": ["a"]}}}', "equals takes one value"),
        ('{"filters": {"name": {"operator": "between", "value": ["a", "b", "c"]}}}', "between takes two values"),
        ('{"filters": {"name": {"operator": "gt", "value": null}}}', "compared with text"),
        ('{"filters": {"name": {"operator": "isEmpty", "value": "yes"}}}', "isEmpty takes true or false"),
        ('{"filters": {"name": {"operator": "regex", "value": "x"}}}', "operator: one of equals, notEquals, "),
        ('{"filters": {"name": {"value": "x"}}}', "filters.name.operator: one of equals"),
        (f'{{"filters": {{"name": "{"x" * 1001}"}}}}', "filters.name: a text is longer than 1000 characters"),
        ('{"filters": {"name": "a\\u0000b"}}', "filters.name: text must not contain NUL"),
        ('{"filters": {"name": ["a", "\\u0000"]}}', "filters.name: text must not contain NUL"),
        (
            '{"filters": {"name": {"operator": "contains", "value": "\\u0000"}}}',
            "filters.name: text must not contain NUL",
        ),
        ('{"filters": {"na\\u0000me": 1}}', "filters.name: text must not contain NUL"),
        (f'{{"filters": {{"name": ["a", "{"x" * 1001}"]}}}}', "filters.name: a text is longer than 1000 characters"),
        (
            f'{{"filters": {{"name": {{"operator": "contains", "value": "{"x" * 1001}"}}}}}}',
            "filters.name: a text is longer than 1000 characters",
        ),
        (
            f'{{"filters": {{"name": {["a"] * 1001}}}}}'.replace("'", '"'),
            "filters.name: a list has more than 1000 values",
        ),
        ('{"search": "\\ud800"}', "pagination: this is not valid JSON"),
        ('{"search": 7}', "pagination.search"),
        (f'{{"search": "{"x" * 201}"}}', "pagination.search: is longer than 200 characters"),
        ('{"page": 1e999999999}', "a number is too large"),
        ('{"page": 1e400}', "pagination.page"),
        (f'{{"page": {"9" * 400}}}', "pagination.page"),
        (f'{{"page": {"9" * 5000}}}', "pagination"),
        ('{"filters": {"amount": 1e300}}', "amount is compared with a number of at most 40 digits"),
        (f'{{"filters": {{"amount": "{"9" * 41}"}}}}', "amount is compared with a number"),
        ('{"filters": {"amount": "1e5"}}', "amount is compared with a number"),
        ('{"filters": {"amount": "NaN"}}', "amount is compared with a number"),
        ('{"filters": {"amount": true}}', "amount is compared with a number"),
        ('{"filters": {"createdAt": "0000-01-01"}}', "createdAt is compared with a day"),
        ('{"filters": {"createdAt": "2026-13-01"}}', "createdAt is compared with a day"),
        ('{"filters": {"createdAt": "2026-05-01T12:00:00"}}', "createdAt is compared with a day"),
        ('{"filters": {"createdAt": "0001-01-01T00:00:00+14:00"}}', "createdAt is compared with a day"),
        ('{"filters": {"createdAt": 20260501}}', "createdAt is compared with a day"),
    ],
)
def test_a_fault_is_named(text: str, phrase: str) -> None:
    with pytest.raises(PaginationFault, match=phrase):
        parse(text)


def test_numbers_and_times_are_exact() -> None:
    assert parse('{"filters": {"amount": 0.1}}') == [Filter(AMOUNT, "equals", (Decimal("0.1"),))]
    assert parse('{"filters": {"amount": [1, "0.000001"]}}') == [
        Filter(AMOUNT, "in", (Decimal(1), Decimal("0.000001")))
    ]
    between = (
        '{"filters": {"sysCreatedAt": {"operator": "between", "value": ["2026-05-01", "2026-05-02T12:00:00+02:00"]}}}'
    )
    assert parse(between) == [Filter(AT, "between", (date(2026, 5, 1), datetime(2026, 5, 2, 10, tzinfo=UTC)))]
