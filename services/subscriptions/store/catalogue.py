"""The catalogue of features: read from its file once, when the process starts."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from rappen_contracts.types import Name, Text
from services.subscriptions.catalogue_files import read_file, require_each_once
from services.subscriptions.store.domain import Feature
from services.subscriptions.store.errors import FeatureUnknown

__all__ = ["Features", "read_features"]

ICON = "mdi-puzzle"


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
    forms = read_file(path, _File).features
    require_each_once(path, [form.code for form in forms], what="feature with the code")
    return Features(form.feature() for form in forms)
