"""A price version as a JSON object, in the form that the package's description documents."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, cast

from services.billing.pricing.bounds import utc_text
from services.billing.pricing.clock import ALL_DAYS, DAY_MINUTES, Window
from services.billing.pricing.price_file import DECIMAL_LENGTH_MAX, PriceFileError, is_decimal, load_json
from services.billing.pricing.version import STANDARD, Factor, PriceError, PriceList, PriceVersion

__all__ = ["parse_version", "version_from_text", "version_to_json", "version_to_text"]

# The hour is 00 to 23, whatever a newer Python reads beside that.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt](?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{1,6})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)", re.ASCII)

_VERSION_FIELDS = {"provider", "model", "currency", "valid_from", "lists", "factors", "source"}
_LIST_FIELDS = {"prices", "tier", "above", "up_to", "when", "clock"}
_FACTOR_FIELDS = {"factor", "tier", "when", "clock", "applies_to"}
_WINDOW_FIELDS = {"hours", "weekdays", "zone"}
_PARTS_MAX = 200


def parse_version(entry: object, default_valid_from: datetime, version_id: str = "") -> PriceVersion:
    """Reads one version; PriceError names the field. The default holds where the entry has no `valid_from`."""
    fields = _object(entry, "entry", _VERSION_FIELDS)
    valid_from = default_valid_from
    if "valid_from" in fields:
        valid_from = _time(fields["valid_from"], "valid_from")
    return PriceVersion(
        provider=_text(fields.get("provider"), "provider"),
        model=_text(fields.get("model"), "model"),
        currency=_text(fields.get("currency"), "currency"),
        valid_from=valid_from,
        lists=tuple(_price_list(part, f"lists[{i}]") for i, part in enumerate(_array(fields.get("lists"), "lists"))),
        factors=tuple(
            _factor(part, f"factors[{i}]") for i, part in enumerate(_array(fields.get("factors", []), "factors"))
        ),
        source=_text(fields.get("source", ""), "source"),
        id=version_id,
    )


def version_from_text(text: str, version_id: str) -> PriceVersion:
    """Reads a version back from its stored text; PriceError when that is not one."""
    try:
        entry = load_json(text.encode())
    except PriceFileError as error:
        raise PriceError(str(error)) from None
    if "valid_from" not in entry:
        raise PriceError("valid_from: is missing")
    return parse_version(entry, datetime.min.replace(tzinfo=UTC), version_id)


def version_to_text(version: PriceVersion) -> str:
    """The compact JSON text of a version, to be stored."""
    return json.dumps(version_to_json(version), separators=(",", ":"), ensure_ascii=False)


def version_to_json(version: PriceVersion) -> dict[str, Any]:
    """The JSON object of a version: decimals as plain strings, nothing that only says the default, no id."""
    entry: dict[str, Any] = {
        "provider": version.provider,
        "model": version.model,
        "currency": version.currency,
        "valid_from": utc_text(version.valid_from),
        "lists": [_list_to_json(each) for each in version.lists],
    }
    if version.factors:
        entry["factors"] = [_factor_to_json(each) for each in version.factors]
    if version.source:
        entry["source"] = version.source
    return entry


def _list_to_json(entry: PriceList) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if entry.tiers != (STANDARD,):
        fields["tier"] = entry.tiers[0] if len(entry.tiers) == 1 else list(entry.tiers)
    if entry.above is not None:
        fields["above"] = entry.above
    if entry.up_to is not None:
        fields["up_to"] = entry.up_to
    fields.update(_selectors_to_json(entry))
    fields["prices"] = {component: format(price, "f") for component, price in entry.prices.items()}
    return fields


def _factor_to_json(factor: Factor) -> dict[str, Any]:
    fields: dict[str, Any] = {"factor": format(factor.factor, "f")}
    if factor.tier is not None:
        fields["tier"] = factor.tier
    fields.update(_selectors_to_json(factor))
    if factor.applies_to != "tokens":
        fields["applies_to"] = factor.applies_to
    return fields


def _selectors_to_json(part: PriceList | Factor) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if part.when:
        fields["when"] = dict(part.when)
    if part.clock:
        fields["clock"] = [_window_to_json(window) for window in part.clock]
    return fields


def _window_to_json(window: Window) -> dict[str, Any]:
    fields: dict[str, Any] = {"hours": window.hours, "weekdays": list(window.weekdays)}
    return fields if window.zone == "UTC" else {**fields, "zone": window.zone}


def _price_list(part: object, path: str) -> PriceList:
    fields = _object(part, path, _LIST_FIELDS)
    tier = fields.get("tier", STANDARD)
    names = _array(tier, f"{path}.tier") if isinstance(tier, list) else [tier]
    prices = _object(fields.get("prices"), f"{path}.prices")
    return PriceList(
        prices={name: _decimal(price, f"{path}.prices.{name}") for name, price in prices.items()},
        tiers=tuple(_text(name, f"{path}.tier") for name in names),
        above=_count(fields["above"], f"{path}.above") if "above" in fields else None,
        up_to=_count(fields["up_to"], f"{path}.up_to") if "up_to" in fields else None,
        when=_conditions(fields, path),
        clock=_clock(fields, path),
    )


def _factor(part: object, path: str) -> Factor:
    fields = _object(part, path, _FACTOR_FIELDS)
    applies_to = fields.get("applies_to", "tokens")
    if applies_to not in ("tokens", "all"):
        raise PriceError(f"{path}.applies_to: tokens or all is expected")
    return Factor(
        factor=_decimal(fields.get("factor"), f"{path}.factor"),
        tier=_text(fields["tier"], f"{path}.tier") if "tier" in fields else None,
        when=_conditions(fields, path),
        clock=_clock(fields, path),
        applies_to=cast("Literal['tokens', 'all']", applies_to),
    )


def _conditions(fields: Mapping[str, Any], path: str) -> dict[str, str]:
    when = _object(fields.get("when", {}), f"{path}.when")
    return {name: _text(value, f"{path}.when.{name}") for name, value in when.items()}


def _clock(fields: Mapping[str, Any], path: str) -> tuple[Window, ...]:
    if "clock" not in fields:
        return ()
    windows = _array(fields["clock"], f"{path}.clock")
    if not windows:
        raise PriceError(f"{path}.clock: at least one window is expected")
    return tuple(_window(window, f"{path}.clock[{index}]") for index, window in enumerate(windows))


def _window(part: object, path: str) -> Window:
    fields = _object(part, path, _WINDOW_FIELDS)
    if not fields.keys() - {"zone"}:
        raise PriceError(f"{path}: hours or weekdays are expected")
    start, end = 0, DAY_MINUTES
    if "hours" in fields:
        start, end = _hours(fields["hours"], f"{path}.hours")
    weekdays = ALL_DAYS
    if "weekdays" in fields:
        weekdays = tuple(_array(fields["weekdays"], f"{path}.weekdays"))
        if any(type(day) is not int for day in weekdays) or len(set(weekdays)) < len(weekdays):
            raise PriceError(f"{path}.weekdays: different numbers from 1 (Monday) to 7 are expected")
    try:
        return Window(start, end, weekdays, _text(fields.get("zone", "UTC"), f"{path}.zone"))
    except ValueError as error:
        raise PriceError(f"{path}: {error}") from None


def _hours(value: object, path: str) -> tuple[int, int]:
    """Minutes of the day at both ends of `HH:MM-HH:MM`."""
    found = _HOURS.fullmatch(_text(value, path))
    if not found:
        raise PriceError(f"{path}: HH:MM-HH:MM is expected")
    numbers = [int(number) for number in found.groups()]
    return numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]


def _object(value: object, path: str, known: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PriceError(f"{path}: an object is expected" if value is not None else f"{path}: is missing")
    if known is not None and not value.keys() <= known:
        raise PriceError(f"{path}: unknown field {min(value.keys() - known)!r}")
    return value


def _array(value: object, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise PriceError(f"{path}: an array is expected" if value is not None else f"{path}: is missing")
    if len(value) > _PARTS_MAX:
        raise PriceError(f"{path}: at most {_PARTS_MAX} parts")
    return value


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise PriceError(f"{path}: a string is expected" if value is not None else f"{path}: is missing")
    return value


def _count(value: object, path: str) -> int:
    if type(value) is not int:
        raise PriceError(f"{path}: a whole number of tokens is expected")
    return value


def _decimal(value: object, path: str) -> Decimal:
    """A JSON number is refused here, because whatever wrote it may already have rounded it."""
    if isinstance(value, (int, Decimal)):
        raise PriceError(f"{path}: a decimal string is expected, not a number")
    text = _text(value, path)
    if not is_decimal(text):
        raise PriceError(f"{path}: {text[:DECIMAL_LENGTH_MAX]!r} is not a decimal number")
    return Decimal(text)


def _time(value: object, path: str) -> datetime:
    text = _text(value, path)
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PriceError(f"{path}: a time with an offset is expected, like 2026-01-31T00:00:00Z") from None
