"""`prices import FILE`: what a price file changes, and with --apply the change itself."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.billing.pricing.import_prices import PriceFileError, PriceImport, import_prices, read_price_file
from services.billing.pricing.repository import Tariffs
from services.billing.settings import BillingSettings
from services.chassis.arguments import operator_database, point_in_time
from services.chassis.clock import platform_clock

__all__ = ["run"]

# Entries of one kind that are printed when not all are asked for.
LISTED_MAX = 40


def run(settings: BillingSettings, arguments: Sequence[str]) -> int:
    """Prints the preview; with --apply also makes the changes. 1 when the file, or all of it, is refused."""
    given = _parser().parse_args(list(arguments))
    try:
        content = given.file.read_bytes()
    except OSError as error:
        print(f"{given.file}: {error.strerror}", file=sys.stderr)
        return 1
    try:
        done = asyncio.run(_import(settings, content, given))
    except PriceFileError as error:
        print(f"{given.file}: {error}", file=sys.stderr)
        return 1
    _print_preview(done, sys.maxsize if given.all else LISTED_MAX)
    if done.refused:
        print(f"{given.file}: {len(done.unreadable)} entries are not readable, nothing was changed", file=sys.stderr)
    return 1 if done.refused else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rappen prices", description="What a price file would change in the price book."
    )
    parser.add_argument("action", choices=["import"], help="reads the file and shows what it changes")
    parser.add_argument("file", type=Path, metavar="FILE", help="the price file")
    parser.add_argument(
        "--format",
        choices=["rappen", "litellm"],
        default="rappen",
        help="our own format, or the public LiteLLM price list (default: %(default)s)",
    )
    parser.add_argument(
        "--valid-from",
        type=point_in_time,
        metavar="TIME",
        help="from when prices hold that name no time of their own, like 2026-01-31T00:00:00Z (default: now)",
    )
    parser.add_argument("--apply", action="store_true", help="make the changes; without it they are only shown")
    parser.add_argument("--all", action="store_true", help=f"show every entry, not only {LISTED_MAX} of a kind")
    return parser


async def _import(settings: BillingSettings, content: bytes, given: argparse.Namespace) -> PriceImport:
    valid_from = given.valid_from or platform_clock(settings)()
    file = read_price_file(content, "litellm" if given.format == "litellm" else "rappen", valid_from)
    async with operator_database(settings) as database, database.transaction() as connection:
        return await import_prices(connection, file, tariffs=Tariffs(), apply=given.apply, actor="operator")


def _print_preview(done: PriceImport, listed_max: int) -> None:
    answer = done.json()
    # What looks like a slip first, so that it is never among what is left out.
    changed = sorted(answer["changed"], key=lambda entry: not entry["tenfold"])
    _list("new", ["\n".join((_model(entry), *map(_price, entry["prices"]))) for entry in answer["new"]], listed_max)
    _list("changed", ["\n".join((_model(entry), *map(_price, entry["prices"]))) for entry in changed], listed_max)
    # Usually nearly all of them, so only counted unless all is asked for.
    _list("unchanged", [_model(entry) for entry in answer["unchanged"]] if listed_max > LISTED_MAX else [], listed_max)
    _list("not read", [f"{entry['entry']}: {entry['why']}" for entry in answer["unreadable"]], listed_max)
    _list("partly read", [f"{entry['entry']}: {entry['why']}" for entry in answer["partlyRead"]], listed_max)
    for entry in answer["settles"]:
        waiting = f", {entry['stillParked']} would still wait" if entry["stillParked"] else ""
        print(f"settles {entry['events']} parked events of {entry['provider']} {entry['model']}{waiting}")
    tenfold = sum(1 for entry in changed if entry["tenfold"])
    marked = f" ({tenfold} by more than ten times)" if tenfold else ""
    counts = f"{len(answer['new'])} new, {len(changed)} changed{marked}, {len(answer['unchanged'])} unchanged"
    read = f"{len(answer['unreadable'])} not read, {len(answer['partlyRead'])} partly read"
    print(f"{counts}, {read}" + ("" if answer["applied"] else " (nothing applied)"))


def _list(kind: str, lines: Sequence[str], listed_max: int) -> None:
    for line in lines[:listed_max]:
        print(f"{kind:<11} {line}")
    if len(lines) > listed_max:
        print(f"{kind:<11} and {len(lines) - listed_max} more (--all shows them)")


def _model(entry: dict[str, Any]) -> str:
    before = entry.get("currencyBefore", entry["currency"])
    currency = entry["currency"] if before == entry["currency"] else f"{entry['currency']} (before in {before})"
    return f"{entry['provider']} {entry['model']} from {entry['validFrom']} in {currency}"


def _price(price: dict[str, Any]) -> str:
    where = f" ({price['where']})" if price["where"] else ""
    mark = "  MORE THAN TEN TIMES" if price["tenfold"] else ""
    return f"{'':<13}{price['price']}{where}: {price['before'] or 'none'} -> {price['after'] or 'none'}{mark}"
