"""Reads the public LiteLLM model-price JSON (one object, a key per model, prices in USD per unit).

The file gives flat fields; here every service tier gets complete price lists per range of prompt length. What the file
does not say is left without a price, so usage of it is parked rather than guessed:

* Prompts above a threshold have the prices that the file gives above it and no others; a tier for which it gives none
  above the entry's smallest threshold has no price there.
* A kind that is billed as another (thinking as output) while the entry prices both differently must be priced in every
  list; where it is not, the list is left out.
* A field that changes the prices of tokens in a way that cannot be expressed refuses its entry. One that changes the
  price of a unit (a length of video, a size of image) takes that price away. Any other unknown price field is named and
  the rest of the entry is taken, since usage of what it prices finds no price.
* A cache that was asked for explicitly has its own price where usage reports the condition `cache` as `explicit`.
* Searches have one price in every tier, which is how the file and the providers price them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from services.billing.pricing.litellm_entry import Entry, read_entry
from services.billing.pricing.litellm_fields import looks_like_a_price, our_name
from services.billing.pricing.price_file import PriceFile, PriceFileError, Unreadable, load_json
from services.billing.pricing.version import PriceError, PriceVersion

__all__ = ["read_litellm_file"]

_CURRENCY = "USD"
_DOCUMENTATION_KEY = "sample_spec"


class _Candidate(NamedTuple):
    """A readable entry and its own price fields, to be compared with another key of the same model."""

    key: str
    version: PriceVersion
    fields: Mapping[str, Any]


def read_litellm_file(data: bytes, valid_from: datetime) -> PriceFile:
    """The prices of a file, valid from a time (UTC) on; PriceFileError when it is no such file."""
    content = load_json(data)
    if not any(isinstance(entry, dict) and "litellm_provider" in entry for entry in content.values()):
        raise PriceFileError("no entry of the file has a litellm_provider")
    unreadable: list[Unreadable] = []
    partly_read: list[Unreadable] = []
    models: dict[tuple[str, str], list[_Candidate]] = {}
    for key, entry in content.items():
        if key == _DOCUMENTATION_KEY:
            unreadable.append(Unreadable.of(key, "describes the fields of the file, not a model"))
            continue
        try:
            version, left_out = _read(key, entry, valid_from)
        except PriceError as error:
            unreadable.append(Unreadable.of(key, str(error)))
            continue
        if left_out:
            partly_read.append(Unreadable.of(key, f"taken without: {'; '.join(left_out)}"))
        fields = {name: value for name, value in entry.items() if looks_like_a_price(name)}
        models.setdefault((version.provider, version.model), []).append(_Candidate(key, version, fields))
    versions = [version for candidates in models.values() for version in _one_of(candidates, unreadable)]
    named = {entry for entry, _ in unreadable}
    return PriceFile(tuple(versions), tuple(unreadable), tuple(part for part in partly_read if part.entry not in named))


def _read(key: str, fields: object, valid_from: datetime) -> tuple[PriceVersion, list[str]]:
    """The version of an entry and what was left out of it."""
    if not isinstance(fields, dict):
        raise PriceError("an object is expected")
    litellm_provider = fields.get("litellm_provider")
    if not isinstance(litellm_provider, str):
        raise PriceError("litellm_provider: is missing")
    entry: Entry = read_entry(fields)
    if not entry.lists:
        unknown = f" that we can read ({'; '.join(entry.left_out)})" if entry.left_out else ""
        raise PriceError(f"no price{unknown}, and a missing price is not zero")
    provider, model = our_name(key, litellm_provider)
    source = fields.get("source")
    version = PriceVersion(
        provider=provider,
        model=model,
        currency=_CURRENCY,
        valid_from=valid_from,
        lists=entry.lists,
        factors=entry.factors,
        source=source if isinstance(source, str) and len(source) <= 500 and source.isprintable() else "",
    )
    return version, entry.left_out


def _one_of(candidates: list[_Candidate], unreadable: list[Unreadable]) -> Iterable[PriceVersion]:
    """The one version of a model that several keys name: the fullest, and none where two contradict each other."""
    fullest = max(candidates, key=lambda each: len(each.fields))
    for other in candidates:
        if not other.version.same_prices(fullest.version) and not other.fields.items() <= fullest.fields.items():
            keys = ", ".join(candidate.key for candidate in candidates)
            for candidate in candidates:
                unreadable.append(Unreadable.of(candidate.key, f"contradictory prices of one model: {keys}"))
            return ()
    return (fullest.version,)
