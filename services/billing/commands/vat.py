"""`vat list`, `vat add COUNTRY DAY PERCENT`: the rates of VAT that invoices have, by country, each from a day on."""

import argparse
import asyncio
import re
import sys
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from iso3166 import countries_by_alpha2

from rappen_contracts.types import TIME_END, TIME_START
from services.billing.invoices.queries import list_vat_rates
from services.billing.invoices.repository import insert_vat_rate
from services.billing.money import plain
from services.billing.settings import BillingSettings
from services.chassis.arguments import operator_database

__all__ = ["run"]

PLACES_MAX = 4

# Other forms that Python reads, such as 1_9, are more likely a slip, which nobody could take away again.
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PERCENT = re.compile(r"[0-9]{1,2}(\.[0-9]+)?")


def run(settings: BillingSettings, arguments: Sequence[str]) -> int:
    """Prints the rates, or adds one; 1 where that country has one from that day on already."""
    given = _parser().parse_args(list(arguments))
    if given.action == "list":
        for country, valid_from, percent in asyncio.run(_list(settings)):
            print(f"{country}  from {valid_from}  {plain(percent)} %")
        return 0
    if asyncio.run(_add(settings, given)):
        print(f"{given.country}: {plain(given.percent)} % from {given.day}")
        return 0
    print(f"{given.country} has a rate from {given.day} on already, which invoices may have used", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rappen vat",
        description="The rates of VAT on invoices. An invoice has the one of its recipient's country at the end of its"
        " period; without one it has no VAT. A rate is never changed: another follows from a later day on.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="all rates", description="All rates, by country and day.")
    add = actions.add_parser("add", help="a rate from a day on", description="Adds a rate from a day on.")
    add.add_argument("country", metavar="COUNTRY", type=_country, help="two capital letters, such as CH")
    add.add_argument("day", metavar="DAY", type=_day, help="the first day, such as 2028-01-01")
    add.add_argument("percent", metavar="PERCENT", type=_percent, help="such as 8.8")
    return parser


def _country(text: str) -> str:
    if text not in countries_by_alpha2:
        raise argparse.ArgumentTypeError("a country of ISO 3166-1 in two capital letters is needed, such as CH")
    return text


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text if _DAY.fullmatch(text) else "")
    except ValueError:
        raise argparse.ArgumentTypeError("a day is needed, such as 2028-01-01") from None
    if not TIME_START.date() <= day < TIME_END.date():
        raise argparse.ArgumentTypeError("a day in the years 2000 to 2199 is needed, such as 2028-01-01")
    return day


def _percent(text: str) -> Decimal:
    if not _PERCENT.fullmatch(text):
        raise argparse.ArgumentTypeError("a percentage of 0 or more and less than 100 is needed, such as 8.8")
    if len(text.partition(".")[2]) > PLACES_MAX:
        raise argparse.ArgumentTypeError(f"a percentage has at most {PLACES_MAX} places after the point, such as 8.8")
    return Decimal(text)


async def _list(settings: BillingSettings) -> list[tuple[str, date, Decimal]]:
    async with operator_database(settings) as database:
        return await list_vat_rates(database)


async def _add(settings: BillingSettings, given: argparse.Namespace) -> bool:
    async with operator_database(settings) as database, database.transaction() as connection:
        return await insert_vat_rate(connection, given.country, given.day, given.percent)
