"""Reads price files of our own format (described in the package)."""

from __future__ import annotations

from datetime import datetime

from services.billing.pricing.json_form import parse_version
from services.billing.pricing.price_file import PriceFile, PriceFileError, Unreadable, load_json
from services.billing.pricing.version import PriceError, PriceVersion

__all__ = ["FORMAT", "read_rappen_file"]

FORMAT = "rappen.prices.v1"


def read_rappen_file(data: bytes, valid_from: datetime) -> PriceFile:
    """The versions of a file; `valid_from` (UTC) is that of the entries that name none.

    PriceFileError when it is no such file; an entry that cannot be read is named with the field and the fault.
    """
    content = load_json(data)
    if content.get("format") != FORMAT:
        litellm = any(isinstance(entry, dict) and "litellm_provider" in entry for entry in content.values())
        hint = ", it looks like a LiteLLM price list, which is read with --format litellm" if litellm else ""
        raise PriceFileError(f"the file does not say that its format is {FORMAT}{hint}")
    unknown = content.keys() - {"format", "prices"}
    if unknown:
        raise PriceFileError(f"unknown field {min(unknown)!r}")
    entries = content.get("prices")
    if not isinstance(entries, list):
        raise PriceFileError("prices: an array is expected")
    versions: dict[tuple[str, str, datetime], PriceVersion] = {}
    unreadable: list[Unreadable] = []
    for index, entry in enumerate(entries):
        name = _name(index, entry)
        try:
            version = parse_version(entry, valid_from)
        except PriceError as error:
            unreadable.append(Unreadable.of(name, str(error)))
            continue
        key = (version.provider, version.model, version.valid_from)
        if key in versions:
            unreadable.append(Unreadable.of(name, "the model has a price from the same time already in this file"))
        else:
            versions[key] = version
    return PriceFile(tuple(versions.values()), tuple(unreadable), all_or_nothing=True)


def _name(index: int, entry: object) -> str:
    """How a fault names an entry: its number in the file and, where they can be read, provider and model."""
    fields = entry if isinstance(entry, dict) else {}
    names = [fields.get("provider"), fields.get("model")]
    return " ".join([f"prices[{index}]", *(name for name in names if isinstance(name, str))])
