"""The catalogue of features: read from its file once, when the process starts."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rappen_contracts.types import Name, Text
from services.chassis.validation import configuration_faults
from services.subscriptions.store.domain import Feature
from services.subscriptions.store.errors import FeatureUnknown

__all__ = ["Features", "FeaturesInvalid", "read_features"]

ICON = "mdi-puzzle"


class FeaturesInvalid(Exception):  # noqa: N818 - what it says of the catalogue.
    """The file is no catalogue of features; the text names the file and every fault."""


class Features:
    """The features there are, in the order of the file."""

    def __init__(self, features: Iterable[Feature]) -> None:
        self._features = {feature.code: feature for feature in features}

    @property
    def shown(self) -> list[Feature]:
        """Those in the store."""
        return [feature for feature in self._features.values() if feature.shown]

    def in_store(self, code: str) -> Feature:
        """The feature of that code; what is not shown in the store is as unknown there as what does not exist."""
        feature = self._features.get(code)
        if feature is None or not feature.shown:
            raise FeatureUnknown
        return feature


_Strict = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Label(BaseModel):
    model_config = _Strict

    # As long as what an event and the directory's entry can hold.
    de: Name
    en: Name


class _Description(BaseModel):
    model_config = _Strict

    de: Text | None = Field(default=None, max_length=2000)
    en: Text | None = Field(default=None, max_length=2000)


class _FeatureForm(BaseModel):
    model_config = _Strict

    code: Name = Field(alias="featureCode")
    shown: bool
    label: _Label
    description: _Description = _Description()
    icon: Name = ICON

    def feature(self) -> Feature:
        return Feature(
            code=self.code,
            shown=self.shown,
            label={"de": self.label.de, "en": self.label.en},
            description=self.description.model_dump(exclude_none=True),
            icon=self.icon,
        )


class _File(BaseModel):
    model_config = _Strict

    features: list[_FeatureForm] = Field(max_length=1000)


def read_features(path: Path) -> Features:
    """Reads and checks the file."""
    try:
        forms = _File.model_validate_json(path.read_bytes()).features
    except OSError as error:
        raise FeaturesInvalid(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        lines = [": ".join(filter(None, (".".join(place), text))) for place, text in configuration_faults(error)]
        raise FeaturesInvalid(f"{path}: {'; '.join(lines)}") from error
    codes = [form.code for form in forms]
    twice = sorted({code for code in codes if codes.count(code) > 1})
    if twice:
        raise FeaturesInvalid(f"{path}: more than one feature with the code {', '.join(twice)}")
    return Features(form.feature() for form in forms)
