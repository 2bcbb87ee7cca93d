"""`unpriced` and `unknown`: usage that waits for a price or a rate, and usage that the directory does not know."""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.billing.mandates.queries import list_unknown
from services.billing.pricing.queries import list_unpriced
from services.billing.settings import BillingSettings
from services.chassis.arguments import LISTED_MAX, add_limit, operator_database
from services.chassis.database import Database

__all__ = ["run_unknown", "run_unpriced"]

Rows = Sequence[dict[str, Any]]


def run_unpriced(settings: BillingSettings, arguments: Sequence[str]) -> int:
    """Prints a line for each parked event."""
    given = _parse("unpriced", "Usage and payments that wait for a price or a rate.", arguments)
    rows = asyncio.run(_read(settings, lambda database: _unpriced(database, given.limit + 1)))
    _print(
        given,
        rows,
        "mandate event reason currency provider/model occurred missing",
        _unpriced_line,
        "waits for a price",
    )
    return 0


def run_unknown(settings: BillingSettings, arguments: Sequence[str]) -> int:
    """Prints a line for each member."""
    given = _parse("unknown", "Mandates and members with usage that the directory does not know.", arguments)
    rows = asyncio.run(_read(settings, lambda database: list_unknown(database, limit=given.limit + 1)))
    _print(given, rows, "mandate user usage what", _unknown_line, "is unknown to the directory")
    return 0


def _parse(name: str, what: str, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"rappen {name}", description=what)
    add_limit(parser)
    parser.add_argument("--json", action="store_true", help="the answer for a program")
    return parser.parse_args(list(arguments))


async def _read(settings: BillingSettings, query: Callable[[Database], Awaitable[Rows]]) -> Rows:
    async with operator_database(settings) as database:
        return await query(database)


async def _unpriced(database: Database, limit: int) -> Rows:
    items: Rows = (await list_unpriced(database, only={}, cursor=None, limit=limit))["items"]
    return items


def _print(
    given: argparse.Namespace, rows: Rows, headings: str, line: Callable[[dict[str, Any]], list[str]], what: str
) -> None:
    """The rows as columns that are as wide as they must be; one row more than the limit says that there are more."""
    shown = rows[: given.limit]
    if given.json:
        print(json.dumps({"items": shown, "more": len(rows) > len(shown)}, indent=2, default=str))
        return
    if not shown:
        print(f"nothing {what}")
        return
    cells = [headings.split(), *(line(row) for row in shown)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(rows) > len(shown):
        print(f"... and more: --limit, up to {LISTED_MAX}")


def _unpriced_line(row: dict[str, Any]) -> list[str]:
    model = f"{row['provider']}/{row['model']}" if row["provider"] else "-"
    return [
        row["mandateId"],
        row["eventId"],
        row["reason"],
        row["currency"] or "-",
        _printable(model),
        "-" if row["occurredAt"] is None else f"{row['occurredAt']:%Y-%m-%dT%H:%M:%SZ}",
        _printable(row["missing"]),
    ]


def _printable(text: str) -> str:
    """The text without control characters, because a publisher chooses it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _unknown_line(row: dict[str, Any]) -> list[str]:
    what = "mandate" if row["mandateUnknown"] else "member"
    return [row["mandateId"], row["userId"], str(row["usageCount"]), what]
