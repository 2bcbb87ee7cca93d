"""A plan as JSON: an entry of the catalogue's file, and the terms kept with each subscription. Nothing is lenient."""

from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from rappen_contracts.types import Amount, Count, Identifier, NonNegativeDecimal, Text
from services.subscriptions.plans.domain import Plan

__all__ = ["PlanForm"]

# The ledger's smallest unit, a millionth of a franc.
_MICRO = Decimal("0.000001")
TRIAL_DAYS_MAX = 3650


def _six_places(amount: Decimal) -> Decimal:
    exact = amount.quantize(_MICRO)
    if exact != amount:
        raise PydanticCustomError("TOO_MANY_DECIMALS", "CHF have at most six decimals")
    return exact


_Chf = Annotated[Amount, AfterValidator(_six_places)]
_Strict = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Label(BaseModel):
    model_config = _Strict

    de: Text = Field(min_length=1, max_length=120)
    en: Text = Field(min_length=1, max_length=120)


class PlanForm(BaseModel):
    """Every field by its name in the configuration; decimals are strings, null is no limit."""

    model_config = _Strict

    plan_key: Identifier = Field(alias="planKey")
    label: _Label
    price_per_user: _Chf = Field(alias="pricePerUserCHF")
    price_per_feature_instance: _Chf = Field(alias="pricePerFeatureInstanceCHF")
    storage_price_per_gb_month: _Chf = Field(alias="storagePricePerGbMonthCHF")
    billing_period: Literal["month", "year"] = Field(alias="billingPeriod")
    max_users: Count | None = Field(alias="maxUsers")
    max_feature_instances: Count | None = Field(alias="maxFeatureInstances")
    max_data_volume_mb: Count | None = Field(alias="maxDataVolumeMB")
    budget_ai: _Chf = Field(alias="budgetAiCHF")
    budget_per: Literal["mandate", "member"] = Field(alias="budgetPer", default="mandate")
    rollover: bool
    trial_days: int = Field(alias="trialDays", ge=0, le=TRIAL_DAYS_MAX)
    requires_stripe: bool = Field(alias="requiresStripe")
    markup_percent: NonNegativeDecimal | None = Field(alias="markupPercent")
    # Not said: a plan that is free for good is the operator's to give, every other one a mandate admin's to start.
    operator_only: bool | None = Field(alias="operatorOnly", default=None)

    @model_validator(mode="after")
    def _priced_plans_are_paid(self) -> Self:
        if not self.requires_stripe and (self.price_per_user or self.price_per_feature_instance):
            raise PydanticCustomError("UNPAID_PRICE", "a plan with a price per user or instance requires Stripe")
        return self

    def plan(self) -> Plan:
        """The plan that the rules work with."""
        free_for_good = not self.requires_stripe and self.trial_days == 0
        return Plan(
            key=self.plan_key,
            label_de=self.label.de,
            label_en=self.label.en,
            operator_only=free_for_good if self.operator_only is None else self.operator_only,
            **self.model_dump(exclude={"plan_key", "label", "operator_only"}),
        )

    @classmethod
    def text_of(cls, plan: Plan) -> str:
        """The JSON of a plan, which `plan_of` reads."""
        fields = asdict(plan)
        label = {"de": fields.pop("label_de"), "en": fields.pop("label_en")}
        form = cls.model_validate(
            {"plan_key": fields.pop("key"), "label": label, **fields}, by_alias=False, by_name=True
        )
        return form.model_dump_json(by_alias=True)

    @classmethod
    def plan_of(cls, text: str) -> Plan:
        """The plan of such a JSON."""
        return cls.model_validate_json(text).plan()
