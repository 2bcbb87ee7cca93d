"""What several operators' commands share: types and limits of their options, and the database as they use it."""

import argparse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from pydantic_core import PydanticCustomError

from rappen_contracts.types import parse_time
from services.chassis.database import OPERATOR_TIMEOUTS, Database
from services.chassis.settings import ServiceSettings

__all__ = ["LISTED_MAX", "add_limit", "operator_database", "point_in_time", "utf8_text", "whole_number"]

# Lines that a command lists at most.
LISTED_MAX = 10_000
NUMBER_LENGTH_MAX = 18


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number from `low` to `high`, both included."""

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= NUMBER_LENGTH_MAX else low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"a number from {low} to {high} is needed")
        return number

    return read


def point_in_time(text: str) -> datetime:
    """An argparse type: a time with an offset."""
    try:
        return parse_time(text)
    except PydanticCustomError as error:
        raise argparse.ArgumentTypeError(f"{error.message()}, as in 2026-05-01T00:00:00Z") from None


def utf8_text(text: str) -> str:
    """An argparse type: a text that the database can be asked for, whatever bytes the terminal has sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("text that is UTF-8 is needed") from None
    return text


def add_limit(parser: argparse.ArgumentParser, *, low: int = 1) -> None:
    """Adds the option that says how many lines are listed at most."""
    parser.add_argument(
        "--limit", type=whole_number(low, LISTED_MAX), default=50, metavar="N", help="at most so many (default: 50)"
    )


@asynccontextmanager
async def operator_database(settings: ServiceSettings) -> AsyncIterator[Database]:
    """The database over one connection, with an operator's time for each statement; closed at the end of the block."""
    database = Database(settings.database_url.get_secret_value(), pool_size=1, settings=OPERATOR_TIMEOUTS)
    try:
        yield database
    finally:
        await database.stop()
