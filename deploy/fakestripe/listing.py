"""Lists by cursor, and the expansion of ids into objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from deploy.fakestripe.operation import Call
from deploy.fakestripe.store import Json, Store
from deploy.fakestripe.wire import invalid, not_found

# What every list takes.
PAGE = ("ending_before", "limit", "starting_after")
DEFAULT_LIMIT = 10
MAX_LIMIT = 100
MAX_EXPAND_DEPTH = 4

_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def table_page(
    call: Call,
    table: str,
    *,
    equal: Iterable[str] = (),
    within: tuple[str, str] | None = None,
    keep: Callable[[Json], bool] = lambda row: True,
) -> Json:
    """Answer a page of a table, newest first.

    It is filtered by `created`, by members that equal the parameter of their name, by one member that is
    `within` the list another parameter gives, and by what the caller wants to `keep`.
    """
    member, param = within or ("", "")
    wanted = call.params.get(param)
    rows = [row for row in reversed(call.store.table(table).look()) if not row.get("deleted")]
    # One member after the other: of a large table these leave few for the rest.
    for name in equal:
        if name in call.params:
            value = call.params[name]
            rows = [row for row in rows if row.get(name) == value]
    created = call.params.get("created")
    matching = [
        row
        for row in rows
        if (wanted is None or row.get(member) in wanted) and _created_within(row, created) and keep(row)
    ]
    return page(call, matching)


def page(call: Call, rows: list[Json]) -> Json:
    """Answer the part of the rows (newest first) that limit, starting_after and ending_before ask for."""
    limit = call.params.get("limit", DEFAULT_LIMIT)
    if not 1 <= limit <= MAX_LIMIT:
        raise invalid(f"This value must be between 1 and {MAX_LIMIT}.", "limit", "parameter_invalid_integer")
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    if after and before:
        raise invalid("You can only use one of starting_after and ending_before.", "ending_before")
    if before:
        end = _position(rows, before, "ending_before")
        start = max(0, end - limit)
        part, more = rows[start:end], start > 0
    else:
        start = _position(rows, after, "starting_after") + 1 if after else 0
        part, more = rows[start : start + limit], len(rows) > start + limit
    return {"object": "list", "data": part, "has_more": more, "url": call.url}


def _position(rows: list[Json], key: str, param: str) -> int:
    for position, row in enumerate(rows):
        if row["id"] == key:
            return position
    raise not_found("object", key, param, status=400)


def _created_within(row: Json, created: Any) -> bool:
    if created is None:
        return True
    # An object that was put as it is may have no time.
    made = row.get("created", 0)
    if isinstance(created, int):
        return bool(made == created)
    return all(_COMPARE[name](made, bound) for name, bound in created.items())


def _copy(value: Any) -> Any:
    """Everything is plain JSON, of which this is several times as fast as a deep copy."""
    return orjson.loads(orjson.dumps(value))


class Expander:
    """Replaces ids by copies of their objects where a request asks for it.

    `tables` says which table the id in a member belongs to. `additions` builds members that exist only when they
    are asked for, by kind of object and name.
    """

    def __init__(
        self,
        tables: Mapping[str, str],
        additions: Mapping[tuple[str, str], Callable[[Store, Json], Json | None]],
    ) -> None:
        self._tables = tables
        self._additions = additions

    def expand(self, store: Store, answer: Json, paths: Iterable[str]) -> Json:
        """Return a copy of the answer with everything on the given dotted paths expanded."""
        expanded: Json = _copy(answer)
        for path in paths:
            steps = path.split(".")
            if len(steps) - (steps[0] == "data") > MAX_EXPAND_DEPTH:
                raise invalid(f"You cannot expand more than {MAX_EXPAND_DEPTH} levels: {path}", "expand")
            self._walk(store, expanded, steps, path)
        return expanded

    def _walk(self, store: Store, node: Any, steps: list[str], path: str) -> None:
        if isinstance(node, list):
            for child in node:
                self._walk(store, child, steps, path)
            return
        if not steps or node is None:
            return
        name = steps[0]
        if not isinstance(node, dict):
            raise self._refusal(path)
        if name not in node:
            addition = self._additions.get((str(node.get("object")), name))
            if addition is None:
                raise self._refusal(path)
            node[name] = _copy(addition(store, node))
        elif isinstance(node[name], str):
            table = self._tables.get(name)
            if table is None or node[name] not in store.table(table):
                raise self._refusal(path)
            node[name] = _copy(store.table(table)[node[name]])
        elif node[name] is not None and not isinstance(node[name], (dict, list)):
            raise self._refusal(path)
        self._walk(store, node[name], steps[1:], path)

    @staticmethod
    def _refusal(path: str) -> Exception:
        return invalid(f"This property cannot be expanded ({path}).", "expand")
