"""Response models of the routes of statistics."""

from pydantic import Field

from services.billing.statistics.show_statistics import PeriodName
from services.chassis.bodies import Amount, AnswerBody

__all__ = ["OwnStatistics", "Statistics"]


class OwnStatistics(AnswerBody):
    """The caller's own usage in a calendar month or year; costs are CHF, features by their codes."""

    period: PeriodName
    total_cost: Amount
    transaction_count: int
    cost_by_provider: dict[str, Amount]
    cost_by_model: dict[str, Amount]
    cost_by_feature: dict[str, Amount]


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
    """Usage in a calendar month by day, or in a year by month; features as `mandate / feature`, mandates by name."""

    total_cost: Amount
    transaction_count: int
    cost_by_provider: dict[str, Amount]
    cost_by_model: dict[str, Amount]
    cost_by_feature: dict[str, Amount]
    cost_by_mandate: dict[str, Amount]
    time_series: list[StatisticsEntry]
