"""Request and response models of the routes of the store."""

from typing import Literal

from pydantic import Field

from rappen_contracts.types import Identifier, Name
from services.chassis.bodies import Amount, AnswerBody, RequestBody, Time

__all__ = [
    "ActivateFeature",
    "Activated",
    "DeactivateFeature",
    "Deactivated",
    "OfferedMandate",
    "StoreFeature",
    "SubscriptionInfo",
]


class OfferedMandate(AnswerBody):
    """A mandate in which the caller may activate features."""

    id: str
    name: str
    label: str


class SubscriptionInfo(AnswerBody):
    """The operative subscription of a mandate, else the latest; null where unknown, of limits also without one."""

    plan: str | None
    status: str | None
    recurring: bool | None
    max_data_volume_mb: int | None = Field(alias="maxDataVolumeMB")
    max_feature_instances: int | None
    budget_ai: Amount | None = Field(alias="budgetAiCHF")
    current_feature_instances: int | None
    trial_ends_at: Time | None


class FeatureLabel(AnswerBody):
    """What a feature is called."""

    de: str
    en: str


class FeatureDescription(AnswerBody):
    """What a feature does, in the languages in which that is written."""

    de: str = ""
    en: str = ""


class OwnInstance(AnswerBody):
    """An instance that the caller has access to."""

    instance_id: str
    mandate_id: str
    mandate_name: str
    label: str
    is_active: bool


class Activatable(AnswerBody):
    """Whether one more instance may be activated in a mandate of the caller, and if not, why."""

    mandate_id: str
    allowed: bool
    reason: Literal["NO_ADMIN", "NO_SUBSCRIPTION", "STRIPE_INCOMPLETE", "LIMIT_REACHED"] | None


class StoreFeature(AnswerBody):
    """A feature of the store."""

    feature_code: str
    label: FeatureLabel
    icon: str
    description: FeatureDescription
    instances: list[OwnInstance]
    can_activate: bool
    activatable: list[Activatable]


class ActivateFeature(RequestBody):
    """One more instance of a feature in a mandate."""

    feature_code: Name
    mandate_id: Identifier


class Activated(AnswerBody):
    """The instance that was made."""

    feature_code: str
    mandate_id: str
    instance_id: str
    activated: Literal[True]


class DeactivateFeature(RequestBody):
    """The instance to which the caller gives up their access."""

    feature_code: Name
    mandate_id: Identifier
    instance_id: Identifier


class Deactivated(AnswerBody):
    """Whether the instance was removed with the caller's access, which was the last one then."""

    feature_code: str
    mandate_id: str
    instance_id: str
    deactivated: Literal[True]
    instance_deleted: bool
