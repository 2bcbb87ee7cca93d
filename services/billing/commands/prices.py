"""`prices import FILE [--format rappen|litellm] [--apply]`: what a price file changes, and the change itself."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from services.billing.repository.prices import Tariffs
from services.billing.settings import BillingSettings
from services.billing.use_cases.import_prices import PriceFileError, PriceImport, import_prices, read_price_file
from services.chassis.clock import system_clock
from services.chassis.database import PATIENT, Database

__all__ = ["run"]

LISTED_MAX = 40


def run(settings: BillingSettings, arguments: Sequence[str]) -> int:
    """Prints the preview; with --apply also makes the changes."""
    parser = argparse.ArgumentParser(prog="prices")
    parser.add_argument("action", choices=["import"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--format", choices=["rappen", "litellm"], default="rappen")
    parser.add_argument("--apply", action="store_true")
    given = parser.parse_args(list(arguments))
    try:
        content = given.file.read_bytes()
    except OSError as error:
        print(f"{given.file}: {error.strerror}", file=sys.stderr)
        return 1
    try:
        done = asyncio.run(_import(settings, content, given.format, apply=given.apply))
    except PriceFileError as error:
        print(f"{given.file}: {error}", file=sys.stderr)
        return 1
    _tell(done)
    return 0


async def _import(settings: BillingSettings, content: bytes, form: str, *, apply: bool) -> PriceImport:
    file = read_price_file(content, "litellm" if form == "litellm" else "rappen", system_clock())
    database = Database(settings.database_url.get_secret_value(), pool_size=2, settings=PATIENT)
    await database.start()
    try:
        async with database.bare() as connection, connection.transaction():
            return await import_prices(connection, file, tariffs=Tariffs(), apply=apply, actor="operator")
    finally:
        await database.stop()


def _tell(done: PriceImport) -> None:
    answer = done.json()
    for kind in ("new", "changed"):
        for entry in answer[kind][:LISTED_MAX]:
            print(f"{kind:<8} {entry['provider']} {entry['model']} from {entry['validFrom']} in {entry['currency']}")
        if len(answer[kind]) > LISTED_MAX:
            print(f"{kind:<8} and {len(answer[kind]) - LISTED_MAX} more")
    for entry in answer["unreadable"][:LISTED_MAX]:
        print(f"not read {entry['entry']}: {entry['why']}")
    if len(answer["unreadable"]) > LISTED_MAX:
        print(f"not read and {len(answer['unreadable']) - LISTED_MAX} more")
    for entry in answer["settles"]:
        print(f"settles  {entry['events']} parked events of {entry['provider']} {entry['model']}")
    counts = f"{len(answer['new'])} new, {len(answer['changed'])} changed, {answer['unchanged']} unchanged"
    print(f"{counts}, {len(answer['unreadable'])} not read" + ("" if answer["applied"] else " (nothing applied)"))
