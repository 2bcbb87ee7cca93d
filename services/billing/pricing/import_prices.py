"""Adding prices and rates: a preview of what a file changes, and new versions, never edits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts.types import CURRENCIES
from services.billing.http import TakeTime
from services.billing.pricing import (
    Change,
    Preview,
    PriceChange,
    PriceFile,
    PriceFileError,
    PriceVersion,
    Rate,
    Unreadable,
    checked_rate,
    diff,
    new_prices,
    read_litellm_file,
    read_rappen_file,
    utc_text,
    version_to_text,
)
from services.billing.pricing.errors import PriceFileRefused
from services.billing.pricing.queries import rates_listed
from services.billing.pricing.repository import (
    Tariffs,
    add_rate,
    add_versions,
    current_tariff,
    lock_revision,
    raise_revision,
)
from services.billing.pricing.would_settle import would_settle
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.validation import FieldFault

__all__ = [
    "PriceFileError",
    "PriceImport",
    "import_file",
    "import_prices",
    "read_price_file",
    "record_rate",
    "set_rate",
]

PriceFormat = Literal["rappen", "litellm"]


@dataclass(frozen=True, slots=True)
class PriceImport:
    """What a file changes, what of it could not be read, and which parked events it would settle.

    `refused`: it was to be applied, and an entry that cannot be read keeps all of it out.
    """

    preview: Preview
    unreadable: Sequence[Unreadable]
    partly_read: Sequence[Unreadable]
    settles: Sequence[dict[str, Any]]
    applied: bool
    refused: bool

    def json(self) -> dict[str, Any]:
        """The body of an answer."""
        return {
            "applied": self.applied,
            "new": [_name(version) | {"prices": _prices(new_prices(version))} for version in self.preview.new],
            "changed": [_change(change) for change in self.preview.changed],
            "unchanged": [_name(version) for version in self.preview.unchanged],
            "unreadable": [entry._asdict() for entry in self.unreadable],
            "partlyRead": [entry._asdict() for entry in self.partly_read],
            "settles": list(self.settles),
        }


def _name(version: PriceVersion) -> dict[str, Any]:
    return {
        "provider": version.provider,
        "model": version.model,
        "currency": version.currency,
        "validFrom": utc_text(version.valid_from),
    }


def _change(change: Change) -> dict[str, Any]:
    prices = change.prices()
    return {
        **_name(change.after),
        "currencyBefore": change.before.currency,
        "tenfold": any(price.tenfold for price in prices),
        "prices": _prices(prices),
    }


def _prices(changes: Sequence[PriceChange]) -> list[dict[str, Any]]:
    return [price._asdict() | {"before": _text(price.before), "after": _text(price.after)} for price in changes]


def _text(price: Decimal | None) -> str | None:
    return None if price is None else format(price, "f")


def read_price_file(content: bytes, form: PriceFormat, valid_from: datetime) -> PriceFile:
    """Reads a file; `PriceFileError` when it is no price file at all. Entries in an unknown currency are not read."""
    read = read_litellm_file if form == "litellm" else read_rappen_file
    found = read(content, valid_from)
    known = tuple(version for version in found.versions if version.currency in CURRENCIES)
    strange = [
        Unreadable.of(f"{version.provider} {version.model}", f"unknown currency {version.currency}")
        for version in found.versions
        if version.currency not in CURRENCIES
    ]
    return found._replace(versions=known, unreadable=(*found.unreadable, *strange))


async def import_prices(
    connection: AsyncConnection,
    file: PriceFile,
    *,
    tariffs: Tariffs,
    apply: bool,
    actor: str | None,
) -> PriceImport:
    """Compares a file with the book and, when asked to, adds what is new in the caller's transaction."""
    refused = apply and file.all_or_nothing and bool(file.unreadable)
    applied = apply and not refused
    if applied:
        # One import at a time: the second sees what the first has added and adds nothing again.
        tariff = await tariffs.at(connection, await lock_revision(connection))
    else:
        tariff = await current_tariff(connection, tariffs)
    preview = diff(tariff.book, file.versions)
    added = preview.additions()
    settles = await would_settle(connection, tariff, added)
    if applied and added:
        await add_versions(connection, [(version, version_to_text(version)) for version in added], actor)
        await raise_revision(connection)
    return PriceImport(preview, file.unreadable, file.partly_read, settles, applied, refused)


async def import_file(
    database: Database,
    content: bytes,
    form: PriceFormat,
    *,
    valid_from: datetime,
    tariffs: Tariffs,
    apply: bool,
    actor: str,
    allow_long_answer: TakeTime,
) -> PriceImport:
    """Reads a file and compares it or adds what is new; refused where it is no price file, or not wholly readable."""
    try:
        file = read_price_file(content, form, valid_from)
    except PriceFileError as error:
        raise PriceFileRefused(why=str(error)) from error
    async with database.transaction() as connection:
        await allow_long_answer(connection)
        done = await import_prices(connection, file, tariffs=tariffs, apply=apply, actor=actor)
    if done.refused:
        raise PriceFileRefused(
            why=f"{len(done.unreadable)} entries are not readable, so nothing was changed",
            errors=[FieldFault(entry.entry, {"en": entry.why}) for entry in done.unreadable],
        )
    return done


async def record_rate(
    database: Database, *, currency: str, rate: Decimal, valid_from: datetime, actor: str, clock: Clock
) -> dict[str, Any]:
    """Adds a rate and returns it as the list of rates shows it."""
    async with database.transaction() as connection:
        number = await set_rate(connection, currency=currency, rate=rate, valid_from=valid_from, actor=actor)
        listed = await rates_listed(connection, currency=currency, now=clock())
    return next(each for each in listed if each["id"] == str(number))


async def set_rate(
    connection: AsyncConnection, *, currency: str, rate: Decimal, valid_from: datetime, actor: str
) -> int:
    """Adds a rate in the caller's transaction and returns its number; of equal times the last recorded holds."""
    checked_rate(Rate(currency, valid_from, rate))
    # One at a time, so that numbers are in the order in which rates came into force.
    await lock_revision(connection)
    number = await add_rate(connection, currency=currency, rate=rate, valid_from=valid_from, actor=actor)
    await raise_revision(connection)
    return number
