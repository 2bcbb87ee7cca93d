"""Search by Stripe's query language: clauses of field, operator and value, joined by AND or by OR."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from deploy.fakestripe.operation import Call, Operation
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import invalid

DEFAULT_LIMIT = 10
MAX_LIMIT = 100
_CLAUSE = re.compile(
    r"""\s*(?P<not>-)?(?P<field>[a-z_.]+)(?:\[(?P<quote>['"])(?P<key>[^'"]*)(?P=quote)\])?
    \s*(?P<operator>:|~|<=|>=|<|>)\s*(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s'"]+)\s*""",
    re.VERBOSE,
)
_JOINT = re.compile(r"(AND|OR)\b", re.IGNORECASE)
_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}
_FIELDS = {
    "charge": ("amount", "created", "currency", "customer", "disputed", "metadata", "refunded", "status"),
    "customer": ("created", "email", "metadata", "name", "phone"),
    "invoice": ("billing_reason", "created", "currency", "customer", "metadata", "number", "status", "total"),
    "payment_intent": ("amount", "created", "currency", "customer", "metadata", "status"),
    "price": ("active", "currency", "lookup_key", "metadata", "product", "type"),
    "product": ("active", "description", "metadata", "name", "url"),
    "subscription": ("canceled_at", "created", "customer", "metadata", "status"),
}

Test = Callable[[Json], bool]


def _search(table: str, call: Call) -> Json:
    limit = call.params.get("limit", DEFAULT_LIMIT)
    if not 1 <= limit <= MAX_LIMIT:
        raise invalid(f"This value must be between 1 and {MAX_LIMIT}.", "limit", "parameter_invalid_integer")
    keep = _read(table, call.params["query"])
    rows = [row for row in reversed(call.store.table(table).values()) if not row.get("deleted") and keep(row)]
    after = call.params.get("page")
    start = 0 if after is None else next((i + 1 for i, row in enumerate(rows) if row["id"] == after), len(rows))
    part = rows[start : start + limit]
    more = len(rows) > start + limit
    return {
        "object": "search_result",
        "data": part,
        "has_more": more,
        "next_page": part[-1]["id"] if more else None,
        "url": call.url,
    }


def _read(table: str, query: str) -> Test:
    """Return what decides whether a row is found; AND and OR cannot be mixed, as at Stripe."""
    tests: list[Test] = []
    joints: set[str] = set()
    position = 0
    while True:
        found = _CLAUSE.match(query, position)
        if found is None:
            raise invalid(f"We were unable to parse your search query: {query}", "query")
        tests.append(_clause(table, found))
        position = found.end()
        if position == len(query):
            break
        joint = _JOINT.match(query, position)
        if joint is None:
            raise invalid(f"We were unable to parse your search query: {query}", "query")
        joints.add(joint[1].upper())
        position = joint.end()
    if len(joints) > 1:
        raise invalid("You cannot combine AND and OR in one query.", "query")
    every = any if joints == {"OR"} else all
    return lambda row: every(test(row) for test in tests)


def _clause(table: str, found: re.Match[str]) -> Test:
    name, key, operator = found["field"], found["key"], found["operator"]
    if name not in _FIELDS[table] or (key is None) != (name != "metadata"):
        raise invalid(f"Field `{name}` is an unsupported search field for resource `{table}s`.", "query")
    negated = found["not"] is not None
    value = found["value"]
    text = re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] in "'\"" else value
    if operator in _NUMBERS and not text.isdecimal():
        raise invalid(f"`{text}` is no number.", "query")

    def fits(row: Json) -> bool:
        held: Any = row.get(name)
        if key is not None:
            held = (held or {}).get(key)
        return _fits(held, operator, text) != negated

    return fits


def _fits(held: Any, operator: str, text: str) -> bool:
    if operator in _NUMBERS:
        return isinstance(held, int) and _NUMBERS[operator](held, int(text))
    if text == "null":
        return held is None
    if held is None:
        return False
    if isinstance(held, bool):
        return str(held).lower() == text
    return text.lower() in str(held).lower() if operator == "~" else str(held) == text


OPERATIONS = tuple(
    Operation("GET", f"/v1/{table}s/search", params, partial(_search, table), ("limit", "page", "query"))
    for table, params in (
        ("charge", "ChargeSearchParams"),
        ("customer", "CustomerSearchParams"),
        ("invoice", "InvoiceSearchParams"),
        ("payment_intent", "PaymentIntentSearchParams"),
        ("price", "PriceSearchParams"),
        ("product", "ProductSearchParams"),
        ("subscription", "SubscriptionSearchParams"),
    )
)
