"""What a list may be asked: every fault is named, and nothing else passes."""

from __future__ import annotations

import pytest

from services.gateway.directory.domain.pagination import ColumnType, Filter, PaginationFault, parse_pagination

COLUMNS: dict[str, ColumnType] = {"name": "text", "enabled": "flag", "roles": "names"}


def parse(text: str) -> list[Filter]:
    return list(parse_pagination(text, COLUMNS, page_size_max=100).filters)


def test_what_is_missing_has_its_default() -> None:
    given = parse_pagination("{}", COLUMNS, page_size_max=100).given
    assert (given.page, given.page_size, given.sort, given.filters, given.search) == (1, 50, [], {}, None)


def test_a_bare_value_means_equals_and_a_list_means_in() -> None:
    assert parse('{"filters": {"name": "a", "enabled": true}}') == [
        Filter("name", "equals", ("a",)),
        Filter("enabled", "equals", (True,)),
    ]
    assert parse('{"filters": {"name": ["a", null]}}') == [Filter("name", "in", ("a", None))]
    assert parse('{"filters": {"roles": {"operator": "contains", "value": "admin"}}}') == [
        Filter("roles", "contains", ("admin",))
    ]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("", "pagination"),
        ('{"pageSize": 101}', "pageSize is at most 100"),
        ('{"page": "1"}', "page"),
        ('{"pages": 1}', "pages"),
        ('{"sort": [{"field": "salary"}]}', "salary is no column"),
        ('{"filters": {"salary": 1}}', "filters.salary"),
        ('{"filters": {"salary": "1"}}', "salary is no column"),
        ('{"filters": {"name": true}}', "compared with text"),
        ('{"filters": {"enabled": "true"}}', "compared with true or false"),
        ('{"filters": {"enabled": {"operator": "gt", "value": true}}}', "cannot be asked gt"),
        ('{"filters": {"roles": {"operator": "startsWith", "value": "a"}}}', "cannot be asked startsWith"),
        ('{"filters": {"name": {"operator": "in", "value": "a"}}}', "in takes a list"),
        ('{"filters": {"name": {"operator": "equals", "value": ["a"]}}}', "equals takes one value"),
        ('{"filters": {"name": {"operator": "between", "value": ["a", "b", "c"]}}}', "between takes two values"),
        ('{"filters": {"name": {"operator": "gt", "value": null}}}', "compared with text"),
        ('{"filters": {"name": {"operator": "isEmpty", "value": "yes"}}}', "isEmpty takes true or false"),
        ('{"filters": {"name": {"operator": "regex", "value": "x"}}}', "operator: one of equals, notEquals, "),
        ('{"filters": {"name": {"value": "x"}}}', "filters.name.operator: one of equals"),
        ('{"page": 1e999999999}', "^page$"),
        ('{"pageSize": 1e-999999999}', "^pageSize$"),
        ('{"page": 1e99999999999999999999}', "^page$"),
        (f'{{"page": {"9" * 400}}}', "^page$"),
        (f'{{"page": {"9" * 5000}}}', "^pagination$"),
        ('{"filters": {"name": 1e999999999}}', "filters.name: text, true, false, null, a list of them"),
        ('{"filters": {"name": {"operator": "gt", "value": 1e999999999}}}', "filters.name: text, true"),
        ('{"filters": {"name": [1e999999999]}}', "filters.name: text, true"),
    ],
)
def test_a_fault_is_named(text: str, phrase: str) -> None:
    with pytest.raises(PaginationFault, match=phrase):
        parse(text)
