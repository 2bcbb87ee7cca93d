"""Values of Stripe's JSON: times, and references that may be expanded. What is missing or of another type is None."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

__all__ = ["id_of", "list_of", "metadata_of", "time_of"]


def time_of(seconds: object) -> datetime | None:
    """The time of a number of seconds since 1970."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return datetime.fromtimestamp(seconds, UTC)


def id_of(reference: object) -> str | None:
    """The id of an object that is named by it, or there as a whole."""
    if isinstance(reference, Mapping):
        reference = reference.get("id")
    return reference if isinstance(reference, str) and reference else None


def list_of(container: object) -> Sequence[Mapping[str, Any]]:
    """The objects of a list inside another object."""
    data = container.get("data") if isinstance(container, Mapping) else None
    return [each for each in data if isinstance(each, Mapping)] if isinstance(data, list) else []


def metadata_of(container: Mapping[str, Any]) -> Mapping[str, str]:
    """The metadata of an object: a pointer, never an authority."""
    found = container.get("metadata")
    return {name: text for name, text in found.items() if isinstance(text, str)} if isinstance(found, Mapping) else {}
