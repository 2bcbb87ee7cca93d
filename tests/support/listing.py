"""Lists of transactions as a test expects them: a mandate with every kind of row, and what filters, order and search
mean, written down once more in Python."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from rappen_contracts.directory.v1 import User
from tests.support.directory import directory_change
from tests.support.events import RawRecord, usage_record

__all__ = ["COLUMNS", "Expected", "a_pagination", "a_row_of_usage", "user_change"]

Row = Mapping[str, Any]

# Every column by its type, in the order of the JSON.
COLUMNS: dict[str, str] = {
    "id": "text",
    "accountId": "text",
    "transactionType": "text",
    "amount": "number",
    "description": "text",
    "referenceType": "text",
    "workflowId": "text",
    "featureCode": "text",
    "featureInstanceId": "text",
    "aicoreProvider": "text",
    "aicoreModel": "text",
    "createdByUserId": "text",
    "createdAt": "time",
    "mandateId": "text",
    "mandateName": "text",
    "referenceId": "text",
    "balanceAfter": "number",
    "processingTime": "number",
    "bytesSent": "number",
    "bytesReceived": "number",
    "errorCount": "number",
    "inputTokens": "number",
    "outputTokens": "number",
    "recordedAt": "time",
    "userId": "text",
    "userName": "text",
}
SEARCHED = (
    "id",
    "accountId",
    "description",
    "workflowId",
    "featureCode",
    "featureInstanceId",
    "aicoreProvider",
    "aicoreModel",
    "createdByUserId",
    "mandateId",
    "mandateName",
    "referenceId",
    "userId",
    "userName",
)
WORDS = ("=1+1", "100%", "a_b", "Zürich", "zÜRICH", "back\\slash", 'say "hi"', "line\nbreak", "-2", "@x", "plain, text")


def user_change(user_id: str, display_name: str, username: str | None = None) -> Any:
    """A person, as billing hears of them."""
    return directory_change(User(id=user_id, username=username, display_name=display_name), None)


def a_row_of_usage(chance: random.Random, mandate: str, users: Sequence[str], start: datetime) -> RawRecord:
    """Usage with some of everything that a column can show."""
    said: dict[str, Any] = {
        "provider": chance.choice(["anthropic", "openai", "mistral"]),
        "model": chance.choice(["small", "Large", "o_1"]),
        "feature_code": chance.choice(["chat", "code", None]),
        "feature_instance_id": chance.choice(["inst-1", "inst-2", None]),
        "workflow_id": chance.choice(["wf-1", "WF-2", None]),
        "description": chance.choice([*WORDS, None, None, None]),
        "processing_time_ms": chance.choice([0, 250, 12345, None]),
        "bytes_sent": chance.choice([0, 10, 2**40, None]),
        "error_count": chance.choice([0, 1, None]),
        "metadata": chance.choice([{"team": "red"}, {"team": "blue", "a.b": "=x"}, None]),
    }
    amount = chance.choice(["0.01", "0.02", "1", "0.000001", "12.345678"])
    at = start + timedelta(minutes=chance.randrange(0, 60 * 24 * 5))
    return usage_record(mandate, chance.choice(users), amount=amount, at=at, **said)


@dataclass(frozen=True)
class Expected:
    """All rows of a mandate, as JSON with exact numbers, and what a list of them has; `fold` makes texts equal that
    differ in the case of letters alone."""

    rows: Sequence[Row]
    zone: str = "Europe/Zurich"
    fold: Callable[[str], str] = str.lower

    def listed(self, pagination: Mapping[str, Any]) -> list[Row]:
        """All rows that the pagination asks for, in its order."""
        rows = [
            row for row in self.rows if all(self.meets(row, name, it) for name, it in pagination["filters"].items())
        ]
        search = pagination.get("search")
        if search:
            rows = [row for row in rows if any(self.fold(search) in self.fold(row[name] or "") for name in SEARCHED)]
        sort = pagination.get("sort") or [{"field": "createdAt", "direction": "desc"}]
        rows = sorted(rows, key=lambda row: row["id"], reverse=sort[0]["direction"] == "desc")
        for each in reversed(sort):
            known = [row for row in rows if row[each["field"]] is not None]
            known.sort(key=_by(each["field"]), reverse=each["direction"] == "desc")
            rows = known + [row for row in rows if row[each["field"]] is None]
        return rows

    def meets(self, row: Row, name: str, condition: Any) -> bool:
        """Whether a row meets a filter."""
        value = row[name]
        if not isinstance(condition, dict):
            condition = {"operator": "in" if isinstance(condition, list) else "equals", "value": condition}
        operator, given = condition["operator"], condition["value"]
        if operator == "isEmpty":
            return (value in (None, "")) == (given is not False)
        values = given if isinstance(given, list) else [given]
        if operator in ("equals", "in"):
            return any(self._same(name, value, each) for each in values)
        if operator == "notEquals":
            return not self._same(name, value, given)
        return value is not None and self._compared(name, value, operator, values)

    def day(self, value: str) -> str:
        """The day on which a time falls."""
        return datetime.fromisoformat(value).astimezone(ZoneInfo(self.zone)).date().isoformat()

    def _same(self, name: str, value: Any, given: Any) -> bool:
        if value is None or given is None:
            return value is None and given is None
        if COLUMNS[name] == "time" and len(given) == 10:
            return self.day(value) == given
        return bool(_order(name, value) == _order(name, given))

    def _compared(self, name: str, value: Any, operator: str, values: Sequence[Any]) -> bool:
        if operator == "contains":
            return self.fold(values[0]) in self.fold(value)
        if operator == "startsWith":
            return self.fold(value).startswith(self.fold(values[0]))
        first, last = (self._sides(name, value, each) for each in (values[0], values[-1]))
        compared: dict[str, Callable[[], bool]] = {
            "gt": lambda: first[0] > first[1],
            "gte": lambda: first[0] >= first[1],
            "lt": lambda: first[0] < first[1],
            "lte": lambda: first[0] <= first[1],
            "between": lambda: first[0] >= first[1] and last[0] <= last[1],
        }
        return compared[operator]()

    def _sides(self, name: str, value: Any, given: Any) -> tuple[Any, Any]:
        """A row's value and a filter's, as they compare: with a day it is days that are compared."""
        if COLUMNS[name] == "time" and len(given) == 10:
            return self.day(value), given
        return _order(name, value), _order(name, given)


def _by(name: str) -> Callable[[Row], Any]:
    return lambda row: _order(name, row[name])


def _order(name: str, value: Any) -> Any:
    kind = COLUMNS[name]
    if kind == "time":
        return datetime.fromisoformat(value).astimezone(UTC)
    # The database compares text by its bytes.
    return Decimal(str(value)) if kind == "number" else str(value).encode()


def a_pagination(chance: random.Random, rows: Sequence[Row]) -> dict[str, Any]:
    """What somebody may ask: up to three filters, a search, up to two columns to sort by."""
    names = chance.sample(sorted(COLUMNS), chance.randrange(0, 4))
    asked: dict[str, Any] = {"filters": {name: _a_condition(chance, name, rows) for name in names}}
    if chance.random() < 0.3:
        text = str(chance.choice(rows)[chance.choice(SEARCHED)] or "%")
        begin = chance.randrange(0, len(text))
        asked["search"] = chance.choice([text, text.upper(), text[begin : begin + 3], "%", "_", "\\"])
    if chance.random() < 0.7:
        fields = chance.sample(sorted(COLUMNS), chance.randrange(1, 3))
        asked["sort"] = [{"field": field, "direction": chance.choice(["asc", "desc"])} for field in fields]
    return asked


def _a_condition(chance: random.Random, name: str, rows: Sequence[Row]) -> Any:
    kind = COLUMNS[name]
    operators = ["equals", "notEquals", "gt", "gte", "lt", "lte", "between", "in", "isEmpty", "bare", "list"]
    if kind == "text":
        operators += ["contains", "startsWith"] * 2
    operator = chance.choice(operators)

    def value(*, nullable: bool = False) -> Any:
        found = chance.choice(rows)[name]
        if found is None:
            return None if nullable else _something(chance, kind)
        if kind == "time" and chance.random() < 0.5:
            return found[:10]
        # Numbers as text too, as the distinct values of a column are given.
        return str(found) if kind == "number" and chance.random() < 0.3 else found

    if operator == "isEmpty":
        return {"operator": operator, "value": chance.choice([True, False])}
    if operator == "between":
        return {"operator": operator, "value": [value(), value()]}
    several = [value(nullable=True) for _ in range(chance.randrange(0, 4))]
    if operator in ("bare", "list"):
        return value(nullable=True) if operator == "bare" else several
    if operator == "in":
        return {"operator": operator, "value": several}
    if operator in ("contains", "startsWith"):
        text = value()
        return {"operator": operator, "value": text[: chance.randrange(1, len(text) + 1)]}
    return {"operator": operator, "value": value(nullable=operator in ("equals", "notEquals"))}


def _something(chance: random.Random, kind: str) -> Any:
    return {"text": "some", "number": chance.randrange(0, 3), "time": "2026-03-28"}[kind]
