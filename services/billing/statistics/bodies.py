"""Response models of the routes of statistics."""

from pydantic import Field

from rappen_contracts.types import Money
from services.billing.statistics.show_statistics import PeriodName
from services.chassis.bodies import Amount, AnswerBody, Time

__all__ = ["OwnStatistics", "Runway", "Statistics"]


class OwnStatistics(AnswerBody):
    """The caller's own usage in a calendar month or year; costs are CHF, features by their codes."""

    period: PeriodName
    total_cost: Amount
    transaction_count: int
    cost_by_provider: dict[str, Amount]
    count_by_provider: dict[str, int]
    cost_by_model: dict[str, Amount]
    count_by_model: dict[str, int]
    cost_by_feature: dict[str, Amount]
    count_by_feature: dict[str, int]


class StatisticsEntry(AnswerBody):
    """A day (`date`) or a month (`month`); cost and totalCost are the same."""

    label: str
    date: str = Field(default="", json_schema_extra={"format": "date"})
    month: str = Field(default="", pattern=r"^\d{4}-\d{2}$")
    cost: Amount
    total_cost: Amount
    count: int
    by_provider: dict[str, Amount]


class Statistics(AnswerBody):
    """Usage in a calendar month by day, or in a year by month; features as `mandate / feature`, mandates by name,
    members by name where they are asked for."""

    total_cost: Amount
    transaction_count: int
    cost_by_provider: dict[str, Amount]
    count_by_provider: dict[str, int]
    cost_by_model: dict[str, Amount]
    count_by_model: dict[str, int]
    cost_by_feature: dict[str, Amount]
    count_by_feature: dict[str, int]
    cost_by_mandate: dict[str, Amount]
    count_by_mandate: dict[str, int]
    cost_by_member: dict[str, Amount] = Field(default_factory=dict)
    count_by_member: dict[str, int] = Field(default_factory=dict)
    time_series: list[StatisticsEntry]


class UnusualDay(AnswerBody):
    """A day that cost much more than is usual on its weekday: by so many deviations from the median, and why."""

    date: str = Field(json_schema_extra={"format": "date"})
    cost: Money
    usual: Money
    deviations: str = Field(pattern=r"^[0-9]+\.[0-9]$")
    text: str


class Outlook(AnswerBody):
    """The balance, what is spent in a day, and the day on which it ends at this rate: null where it does not within a
    year, or nobody can tell; `text` says which, in the caller's language. The newest unusual day is the first."""

    balance: Money | None
    burn_per_day: Money | None
    ends_on: str | None = Field(json_schema_extra={"format": "date"})
    text: str
    unusual: list[UnusualDay]


class MemberOutlook(Outlook):
    """That of a member; without a balance where they have no budget of their own."""

    user_id: str
    user_name: str


class FeatureOutlook(Outlook):
    """That of a feature, which has no balance."""

    feature_code: str


class Runway(AnswerBody):
    """How long the balance of a mandate lasts; `mandate` is null where the caller does not see all of its usage.
    Members and features are those with usage in the last nine weeks, the most expensive first."""

    mandate_id: str
    mandate_name: str
    as_of: Time
    mandate: Outlook | None
    members: list[MemberOutlook]
    features: list[FeatureOutlook]
