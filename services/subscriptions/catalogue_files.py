"""Reading a catalogue that an operator wrote: plans, features."""

from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from services.chassis.validation import configuration_faults

__all__ = ["CatalogueInvalid", "read_file", "require_each_once"]

_Form = TypeVar("_Form", bound=BaseModel)


class CatalogueInvalid(Exception):  # noqa: N818 - what it says of the catalogue.
    """The file is no catalogue; the text names the file and every fault."""


def read_file(path: Path, form: type[_Form]) -> _Form:
    """Reads and checks the file."""
    try:
        return form.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CatalogueInvalid(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        lines = [": ".join(filter(None, (".".join(place), text))) for place, text in configuration_faults(error)]
        raise CatalogueInvalid(f"{path}: {'; '.join(lines)}") from error


def require_each_once(path: Path, names: Collection[str], *, what: str) -> None:
    """Refuses a file in which an entry is named twice; `what` is in the refusal before the names."""
    seen = list(names)
    twice = sorted({name for name in seen if seen.count(name) > 1})
    if twice:
        raise CatalogueInvalid(f"{path}: more than one {what} {', '.join(twice)}")
